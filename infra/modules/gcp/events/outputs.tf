output "topic" {
  description = "Full ID of the topic."
  value       = google_pubsub_topic.this.id
}

output "account" {
  description = "Address of the service account that calls the function."
  value       = google_service_account.this.email
}

output "notifies" {
  description = "The buckets that notify the topic, each with the prefixes of the objects of which it does (null: of all)."
  value       = { for one in concat(google_storage_notification.results, values(google_storage_notification.bucket)) : one.bucket => one.object_name_prefix... }
}

output "publishers" {
  description = "Who may publish to the topic."
  value       = toset([for one in google_pubsub_topic_iam_member.publisher : one.member])
}
