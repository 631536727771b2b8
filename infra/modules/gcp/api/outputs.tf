output "callers" {
  description = "Who may call the function."
  value       = toset([for caller in google_cloud_run_v2_service_iam_member.caller : caller.member])
}
