output "topic" {
  description = "Full ID of the topic."
  value       = google_pubsub_topic.this.id
}

output "account" {
  description = "Address of the service account that calls the function."
  value       = google_service_account.this.email
}

output "publishers" {
  description = "Who may publish to the topic."
  value       = toset([for one in google_pubsub_topic_iam_member.publisher : one.member])
}
