output "callers" {
  description = "Who may call the function, by their names."
  value       = { for name, one in google_cloud_run_v2_service_iam_member.caller : name => one.member }
}
