output "vpc_id" {
  description = "The VPC."
  value       = local.vpc_id
}

output "cidr" {
  description = "Address range of the VPC."
  value       = local.cidr
}

output "subnet_ids" {
  description = "The private subnets."
  value       = local.private_subnet_ids
}

output "functions_security_group_id" {
  description = "The functions' security group."
  value       = aws_security_group.functions.id
}

output "database_clients_security_group_id" {
  description = "The additional security group of the functions that may reach the database."
  value       = aws_security_group.database_clients.id
}
