# One function: a service of Cloud Run, its account, and what the account may do.

resource "google_service_account" "this" {
  account_id   = var.account
  display_name = "The function ${var.name} only"
}

# ---- what it may do, in Google's words

# who fills a secret also reads it, to see what it holds
resource "google_secret_manager_secret_iam_member" "reads" {
  for_each = merge(var.access.reads, var.access.fills)

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.this.email}"
}

resource "google_secret_manager_secret_iam_member" "fills" {
  for_each = var.access.fills

  secret_id = each.value
  role      = "roles/secretmanager.secretVersionAdder"
  member    = "serviceAccount:${google_service_account.this.email}"
}

locals {
  result_roles = {
    read = "roles/storage.objectViewer"
    # the control plane writes and deletes what users put; a worker deletes an incomplete archive before it writes the complete one
    write = "roles/storage.objectUser"
    # no predefined role may delete and not create
    sweep = "roles/storage.objectUser"
  }
}

resource "google_storage_bucket_iam_member" "results" {
  for_each = var.access.results == null ? {} : { (var.access.results.verb) = var.access.results }

  bucket = each.value.bucket
  role   = local.result_roles[each.key]
  member = "serviceAccount:${google_service_account.this.email}"

  condition {
    title = "results"
    # listing is of the bucket, not of an object; who may not list is told "forbidden" of an object that does not exist
    expression = join(" || ", [
      "resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/${each.value.prefix}\")",
      "api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"${each.value.prefix}\")",
    ])
  }
}

# it has no key of its own: IAM signs in its name, which Google allows an account only if it has this role on itself
resource "google_service_account_iam_member" "signs" {
  count = var.access.signs ? 1 : 0

  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:${google_service_account.this.email}"
}

resource "google_pubsub_subscription_iam_member" "polls" {
  for_each = var.access.polls

  subscription = each.value
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:${google_service_account.this.email}"
}

# ---- the service

locals {
  # an instance needs a second CPU above 4 GiB, and a fourth and an eighth above 8 and 16
  least_cpu = var.limits.memory_mb <= 4096 ? 1 : var.limits.memory_mb <= 8192 ? 2 : var.limits.memory_mb <= 16384 ? 4 : 8
  cpu       = max(local.least_cpu, coalesce(var.limits.cpu, 1))
  gpus      = var.limits.accelerator == null ? {} : { "nvidia.com/gpu" = "1" }
}

resource "google_cloud_run_v2_service" "this" {
  name                = var.name
  location            = var.location
  description         = var.description
  ingress             = var.reached_from == "internet" ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = false

  build_config {
    source_location          = var.code.source
    function_target          = "function"
    image_uri                = var.code.image
    base_image               = var.code.base_image
    enable_automatic_updates = false
    service_account          = var.code.build_account
  }

  template {
    service_account                  = google_service_account.this.email
    timeout                          = "${var.limits.timeout_s}s"
    max_instance_request_concurrency = var.limits.concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"

    # in one zone: a GPU that is reserved in a second one costs more, and a queue waits for an instance
    gpu_zonal_redundancy_disabled = var.limits.accelerator == null ? null : true

    dynamic "node_selector" {
      for_each = var.limits.accelerator == null ? [] : [var.limits.accelerator]
      content {
        accelerator = node_selector.value
      }
    }

    dynamic "scaling" {
      for_each = var.limits.max_instances == null ? [] : [var.limits.max_instances]
      content {
        max_instance_count = scaling.value
      }
    }

    containers {
      image = var.code.image

      resources {
        limits = merge({ cpu = tostring(local.cpu), memory = "${var.limits.memory_mb}Mi" }, local.gpus)
        # Cloud Run attaches a GPU only to instances whose CPUs are theirs between requests, too
        cpu_idle          = var.limits.accelerator == null
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(var.environment, { FUNCTION_USE_ASGI = "true" })
        content {
          name  = env.key
          value = env.value
        }
      }
    }

    dynamic "vpc_access" {
      for_each = var.network == null ? [] : [var.network]
      content {
        egress = vpc_access.value.egress == "all" ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"

        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  # an instance reads its secrets when it starts
  depends_on = [google_secret_manager_secret_iam_member.reads]
}
