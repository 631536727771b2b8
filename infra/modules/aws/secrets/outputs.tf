output "arns" {
  description = "ARNs by short name."
  value       = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }
}
