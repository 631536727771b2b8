# A topic whose messages call a function: those that publishers send, and one for each object written to buckets.

data "google_storage_project_service_account" "storage" {
  count = var.results == null && length(var.buckets) == 0 ? 0 : 1
}

resource "google_pubsub_topic" "this" {
  # checkov:skip=CKV_GCP_83: encrypted with Google's own key; a message says only that something has happened
  name = var.name
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = merge(
    { for member in var.publishers : member => member },
    { for storage in data.google_storage_project_service_account.storage : "storage" => storage.member },
  )

  topic  = google_pubsub_topic.this.name
  role   = "roles/pubsub.publisher"
  member = each.value
}

resource "google_storage_notification" "results" {
  count = var.results == null ? 0 : 1

  bucket             = var.results.bucket
  topic              = google_pubsub_topic.this.id
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.results.prefix
  payload_format     = "JSON_API_V1"

  depends_on = [google_pubsub_topic_iam_member.publisher]
}

resource "google_storage_notification" "bucket" {
  for_each = var.buckets

  bucket         = each.value
  topic          = google_pubsub_topic.this.id
  event_types    = ["OBJECT_FINALIZE"]
  payload_format = "JSON_API_V1"

  depends_on = [google_pubsub_topic_iam_member.publisher]
}

# ---- from the topic to the function

resource "google_service_account" "this" {
  account_id   = var.name
  display_name = "The topic ${var.name} only"
}

resource "google_cloud_run_v2_service_iam_member" "this" {
  location = var.location
  name     = var.function.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.this.email}"
}

resource "google_pubsub_subscription" "this" {
  name                 = var.name
  topic                = google_pubsub_topic.this.id
  ack_deadline_seconds = var.function.timeout_s
  # one call does the work of all messages before it
  message_retention_duration = "3600s"

  push_config {
    push_endpoint = "${var.function.uri}/"

    oidc_token {
      service_account_email = google_service_account.this.email
      audience              = var.function.uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # it does not expire while nothing happens
  expiration_policy {
    ttl = ""
  }

  depends_on = [google_cloud_run_v2_service_iam_member.this]
}
