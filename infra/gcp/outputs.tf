output "prefix" {
  description = "Prefix of all names."
  value       = var.name
}

output "project" {
  description = "ID of the project."
  value       = var.project
}

output "region" {
  description = "Region of the deployment."
  value       = var.region
}

output "endpoint_url" {
  description = "URL of the stand-ins; null on Google Cloud."
  value       = var.endpoint_url
}

output "builds" {
  description = "Image -> request of Cloud Run's API (projects.locations.builds:submit) that builds it."
  value       = { for package, image in module.images.images : image => module.images.requests[package] }
}

output "gateway_url" {
  description = "URL at which users and browsers reach the engine."
  value       = module.function["gateway"].uri
}

output "control_plane_url" {
  description = "URL of the control plane, for functions and operators."
  value       = module.control_plane.uri
}

output "migration_url" {
  description = "URL at which an operator starts the migration."
  value       = module.function["migration"].uri
}

output "operator" {
  description = "Address of the service account of operators."
  value       = google_service_account.operator.email
}

output "operator_token_secret_id" {
  description = "Secret with the operator's service token."
  value       = module.secrets.ids["service_token/operator"]
}

output "functions" {
  description = "The functions: name of the service, URL, and address of the service account of each."
  value       = { for name, service in local.services : name => { name = service.name, url = service.uri, account = service.account } }
}

output "queues" {
  description = "Full ID of the queue of each pool, and of each function that is invoked."
  value       = { for name, queue in module.queue : name => queue.id }
}

output "topic" {
  description = "Full ID of the topic whose messages start the reconciler."
  value       = module.events["reconciler"].topic
}

output "result_bucket" {
  description = "Bucket of the results."
  value       = local.result_bucket
}

output "roles" {
  description = "What each function may do: pairs of a role and a resource."
  value = {
    for name, service in local.services : name => concat(
      service.roles,
      [for queue in module.queue : { role = "roles/cloudtasks.enqueuer", resource = queue.id } if contains(keys(queue.invokers), name)],
      [for other, api in module.api : { role = "roles/run.invoker", resource = local.services[other].name } if contains(keys(api.callers), name)],
    )
  }
}
