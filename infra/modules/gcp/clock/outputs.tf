output "account" {
  description = "Address of the service account that calls the function."
  value       = google_service_account.this.email
}

output "schedule" {
  description = "When the function is called, as a cron expression."
  value       = google_cloud_scheduler_job.this.schedule
}
