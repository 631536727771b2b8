output "prefix" {
  description = "Prefix of all names."
  value       = var.name
}

output "region" {
  description = "Region of the deployment."
  value       = var.region
}

output "endpoint_url" {
  description = "URL of the emulator; null on AWS."
  value       = var.endpoint_url
}

locals {
  # an emulator's host names would need their own DNS resolver, so there the API is a path below the endpoint
  urls = {
    for name, api in module.api :
    name => var.endpoint_url == null ? api.url : "${var.endpoint_url}/_aws/execute-api/${api.id}/$default"
  }
}

output "gateway_url" {
  description = "URL at which users and browsers reach the engine."
  value       = local.urls["gateway"]
}

output "control_plane_url" {
  description = "URL at which tools reach the control plane over HTTP; null if it is called through Lambda's own API."
  value       = lookup(local.urls, "control_plane", null)
}

output "operator_token_secret_arn" {
  description = "Secret with the operator's service token."
  value       = module.secrets.arns["service_token/operator"]
}

output "functions" {
  description = "The functions: name, ARN, newest version, alias and log group of each."
  value = {
    for name, function in module.function : name => {
      name      = function.name
      arn       = function.arn
      version   = function.version
      alias     = module.release[name].alias
      log_group = function.log_group
    }
  }
}

output "queues" {
  description = "The queue of each pool, and of each function that is invoked: URL, ARN, and URL of its dead-letter queue."
  value       = { for name, queue in module.queue : name => { url = queue.url, arn = queue.arn, dead_url = queue.dead_url } }
}

output "topic_arn" {
  description = "Topic whose messages start the reconciler."
  value       = module.events["reconciler"].topic_arn
}

output "result_bucket" {
  description = "Bucket of the results."
  value       = local.result_bucket.name
}

output "policies" {
  description = "Policy of each function, as JSON."
  value       = { for name, function in module.function : name => function.policy }
}

output "vpc_id" {
  description = "The VPC."
  value       = module.network.vpc_id
}

output "alarms" {
  description = "Names of the alarms, and the topic that they publish to."
  value       = { names = module.observability.alarms, topic_arn = module.observability.topic_arn }
}

output "migration" {
  description = "Result of the last migration."
  value       = jsondecode(aws_lambda_invocation.migrate.result)
}
