# The queue that a function is invoked through. It holds the function's URL and the account that calls it, so whoever adds a
# task needs no right but that.

locals {
  # http://127.0.0.1:8080, https://noetl-worker-abc.a.run.app
  target = regex("^(?P<scheme>https?)://(?P<host>[^:/]+)(?::(?P<port>[0-9]+))?", var.function.uri)
}

resource "google_service_account" "this" {
  account_id   = var.account
  display_name = "The queue ${var.name} only"
}

resource "google_cloud_run_v2_service_iam_member" "this" {
  location = var.location
  name     = var.function.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.this.email}"
}

resource "google_cloud_tasks_queue" "this" {
  name     = var.name
  location = var.location

  http_target {
    http_method = "POST"

    uri_override {
      scheme                    = upper(local.target.scheme)
      host                      = local.target.host
      port                      = coalesce(local.target.port, local.target.scheme == "https" ? "443" : "80")
      uri_override_enforce_mode = "ALWAYS"

      path_override {
        path = "/"
      }
    }

    oidc_token {
      service_account_email = google_service_account.this.email
      audience              = var.function.uri
    }
  }

  # as many as there are instances; more would be refused, and a refusal counts as an attempt
  dynamic "rate_limits" {
    for_each = var.function.max_instances == null ? [] : [var.function.max_instances]
    content {
      max_concurrent_dispatches = rate_limits.value
    }
  }

  retry_config {
    max_attempts  = var.max_attempts
    min_backoff   = "1s"
    max_backoff   = "300s"
    max_doublings = 8
  }

  depends_on = [google_cloud_run_v2_service_iam_member.this]
}

resource "google_cloud_tasks_queue_iam_member" "invoker" {
  for_each = var.invokers

  location = google_cloud_tasks_queue.this.location
  name     = google_cloud_tasks_queue.this.name
  role     = "roles/cloudtasks.enqueuer"
  member   = each.value
}
