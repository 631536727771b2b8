# The same files are used for Google Cloud and for stand-ins of its services; only endpoint_url differs.
locals {
  # null is the service's own URL
  at = { for path in ["v1/", "v2/", "storage/v1/"] : path => var.endpoint_url == null ? null : "${var.endpoint_url}/${path}" }
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = merge({ deployment = var.name, application = "noetl" }, var.labels)

  artifact_registry_custom_endpoint = local.at["v1/"]
  cloud_run_v2_custom_endpoint      = local.at["v2/"]
  cloud_scheduler_custom_endpoint   = local.at["v1/"]
  cloud_tasks_custom_endpoint       = local.at["v2/"]
  iam_custom_endpoint               = local.at["v1/"]
  pubsub_custom_endpoint            = local.at["v1/"]
  resource_manager_custom_endpoint  = local.at["v1/"]
  secret_manager_custom_endpoint    = local.at["v1/"]
  storage_custom_endpoint           = local.at["storage/v1/"]
}
