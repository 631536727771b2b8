output "host" {
  description = "Host that the functions connect to: the proxy's if there is one."
  value       = var.proxy.enabled ? aws_db_proxy.this[0].endpoint : local.host
  # dependents wait until the host accepts connections
  depends_on = [aws_rds_cluster_instance.this, aws_db_proxy_target.this, aws_vpc_security_group_ingress_rule.database]
}

output "port" {
  description = "Port of PostgreSQL."
  value       = local.port
}

output "database" {
  description = "Name of the database."
  value       = local.database
}

output "user" {
  description = "Name of the user."
  value       = local.user
}

output "secret_arn" {
  description = "Secret in which RDS stores the user's name and password."
  value       = local.secret_arn
}

output "identifier" {
  description = "Identifier of the instance or cluster, and its CloudWatch dimension."
  value       = { kind = local.aurora ? "DBClusterIdentifier" : "DBInstanceIdentifier", value = var.name }
}

output "worker_role" {
  description = "Name of the role of direct workers, which the control plane creates when it migrates, if there are any."
  value       = local.worker_role
}

output "connect_arns" {
  description = "ARNs on which to allow rds-db:connect, for authentication by role; empty otherwise."
  value       = [for prefix in local.connect_prefixes : "${prefix}/${local.user}"]
}

output "worker_connect_arns" {
  description = "The same for direct workers."
  value       = [for prefix in local.connect_prefixes : "${prefix}/${local.worker_role}"]
}

output "proxied_secret_arns" {
  description = "Secrets of the roles that the proxy signs in; empty without a proxy."
  value       = flatten([for proxy in aws_db_proxy.this : proxy.auth[*].secret_arn])
}
