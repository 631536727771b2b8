output "topic_arn" {
  description = "ARN of the topic."
  # who publishes must be allowed to
  value      = aws_sns_topic.this.arn
  depends_on = [aws_sns_topic_policy.this]
}

output "policy" {
  description = "The topic's policy, as JSON; null if nobody may publish."
  value       = one(aws_sns_topic_policy.this[*].policy)
}

output "notifies" {
  description = "Prefix of the objects of which the bucket notifies the topic; empty if it does not."
  value       = flatten([for one in aws_s3_bucket_notification.results : one.topic[*].filter_prefix])
}
