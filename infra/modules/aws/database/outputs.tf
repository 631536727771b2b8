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

output "connect_arns" {
  description = "ARNs on which to allow rds-db:connect, for authentication by role; empty otherwise."
  value = var.proxy.iam ? [
    join(":", [
      join(":", slice(split(":", aws_db_proxy.this[0].arn), 0, 2)), "rds-db",
      split(":", aws_db_proxy.this[0].arn)[3], split(":", aws_db_proxy.this[0].arn)[4],
      "dbuser", "${split(":", aws_db_proxy.this[0].arn)[6]}/${local.user}",
    ])
  ] : []
}
