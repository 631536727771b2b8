output "functions" {
  description = <<-EOT
    The functions, by name: their rows with the inputs applied, and full_name; kinds (of their triggers); like (the function
    whose package it runs); queue (the one that invokes it, or null); every_s (its schedule, or null); public (reached from the
    internet); invokes (the queues that it sends to); calls (whether it calls the control plane); results (read, write, sweep or
    null); reads (setting -> short name of the secret that holds it); environment, as far as it is the same in every cloud.
  EOT
  value       = local.functions
}

output "queues" {
  description = "Queue -> the function that it invokes."
  value       = { for name, queue in local.queues : queue => name }
}

output "direct" {
  description = "The workers with the orchestrator in their own process."
  value       = local.direct
}

output "packages" {
  description = "The functions whose packages are deployed."
  value       = toset([for row in values(local.functions) : row.like])
}

output "worker" {
  description = "How direct workers sign in to an existing database: role and URL; null for one that the deployment creates."
  value       = var.database_url == null ? null : { role = local.worker_role, url = "postgresql://${local.worker_role}@${local.place}" }
}
