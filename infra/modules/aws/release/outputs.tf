output "alias" {
  description = "Name of the live alias."
  value       = aws_lambda_alias.live.name
}

output "arn" {
  description = "ARN of the alias."
  value       = aws_lambda_alias.live.arn
}

output "invoke_arn" {
  description = "ARN by which an HTTP API calls the alias."
  value       = aws_lambda_alias.live.invoke_arn
}
