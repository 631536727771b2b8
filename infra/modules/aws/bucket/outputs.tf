output "name" {
  description = "Name of the bucket."
  # whoever uses the bucket waits until it is closed to the public
  value      = aws_s3_bucket.this.id
  depends_on = [aws_s3_bucket_public_access_block.this, aws_s3_bucket_policy.this]
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "expires" {
  description = "Days after which what is in it is deleted, by prefix; empty if nothing is."
  value       = { for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.filter[0].prefix => rule.expiration[0].days if length(rule.expiration) > 0 }
}
