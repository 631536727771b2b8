output "name" {
  description = "Name of the bucket."
  value       = google_storage_bucket.this.name
}

output "expires" {
  description = "Days after which objects are deleted, by prefix; empty if none are."
  value = {
    for rule in google_storage_bucket.this.lifecycle_rule :
    one(rule.condition).matches_prefix[0] => one(rule.condition).age if length(coalesce(one(rule.condition).matches_prefix, [])) > 0
  }
}
