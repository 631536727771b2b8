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
