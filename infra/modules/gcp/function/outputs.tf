output "name" {
  description = "Name of the service."
  value       = google_cloud_run_v2_service.this.name
}

output "location" {
  description = "Region of the service."
  value       = google_cloud_run_v2_service.this.location
}

output "uri" {
  description = "URL of the service, and audience of the tokens with which it is called."
  value       = google_cloud_run_v2_service.this.uri
}

output "account" {
  description = "Address of the function's service account."
  value       = google_service_account.this.email
}

output "member" {
  description = "The function's service account, as a member of IAM."
  value       = "serviceAccount:${google_service_account.this.email}"
}

output "roles" {
  description = "What the function may do: pairs of a role and a resource."
  value = concat(
    [for one in google_secret_manager_secret_iam_member.reads : { role = one.role, resource = one.secret_id }],
    [for one in google_secret_manager_secret_iam_member.fills : { role = one.role, resource = one.secret_id }],
    [for one in google_storage_bucket_iam_member.results : { role = one.role, resource = one.bucket }],
    [for one in google_service_account_iam_member.signs : { role = one.role, resource = google_service_account.this.email }],
    [for one in google_pubsub_subscription_iam_member.polls : { role = one.role, resource = one.subscription }],
  )
}
