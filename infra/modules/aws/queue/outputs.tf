output "name" {
  description = "Name of the queue."
  value       = aws_sqs_queue.this.name
}

output "arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.this.arn
}

output "url" {
  description = "URL of the queue."
  value       = aws_sqs_queue.this.url
}

output "dead_name" {
  description = "Name of the dead-letter queue."
  value       = aws_sqs_queue.dead.name
}

output "dead_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead.arn
}

output "dead_url" {
  description = "URL of the dead-letter queue."
  value       = aws_sqs_queue.dead.url
}

output "visibility_s" {
  description = "Seconds for which a received message is hidden from other consumers."
  value       = aws_sqs_queue.this.visibility_timeout_seconds
}

output "statements" {
  description = "The statements of the queue's policy."
  value       = try(jsondecode(aws_sqs_queue_policy.this["live"].policy).Statement[*].Sid, [])
}
