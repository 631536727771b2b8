# A private bucket, with rules that delete what has expired.

# reads and writes of results are in the engine's own event log; versioned if the deployment says so, because the content can be
# created again
#trivy:ignore:GCP-0077 #trivy:ignore:GCP-0078
resource "google_storage_bucket" "this" {
  # checkov:skip=CKV_GCP_62: reads and writes of results are in the engine's own event log
  # checkov:skip=CKV_GCP_78: versioned if the deployment says so; its content can be created again
  name                        = var.name
  location                    = var.location
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = var.versioned
  }

  # what is deleted is gone, unless it is versioned
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = var.expiry.upload_days
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = var.expiry.noncurrent_days
      with_state                 = "ARCHIVED"
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.expiry.days == null ? [] : [var.expiry.days]
    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = [var.expiry.prefix]
        with_state     = "LIVE"
      }
    }
  }
}
