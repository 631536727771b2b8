output "hosts" {
  description = "Full names of the nodes."
  value       = local.host_names
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}
