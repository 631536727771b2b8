# What calls a function at intervals.

resource "google_service_account" "this" {
  account_id   = var.name
  display_name = "The clock of ${var.function.name} only"
}

resource "google_cloud_run_v2_service_iam_member" "this" {
  location = var.location
  name     = var.function.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.this.email}"
}

resource "google_cloud_scheduler_job" "this" {
  name        = var.name
  region      = var.location
  description = "Starts ${var.function.name}"
  schedule    = var.every_minutes == 1 ? "* * * * *" : "*/${var.every_minutes} * * * *"
  time_zone   = "Etc/UTC"
  # the next one follows, so a failed one is not repeated
  attempt_deadline = "${var.function.timeout_s}s"

  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "${var.function.uri}/"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode("{}")

    oidc_token {
      service_account_email = google_service_account.this.email
      audience              = var.function.uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.this]
}
