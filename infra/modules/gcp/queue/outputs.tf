output "name" {
  description = "Name of the queue."
  value       = google_cloud_tasks_queue.this.name
}

output "id" {
  description = "Full ID of the queue: projects/<project>/locations/<region>/queues/<name>."
  value       = google_cloud_tasks_queue.this.id
}

output "account" {
  description = "Address of the service account that calls the function."
  value       = google_service_account.this.email
}

output "invokers" {
  description = "Who may add tasks, by their names."
  value       = { for name, one in google_cloud_tasks_queue_iam_member.invoker : name => one.member }
}
