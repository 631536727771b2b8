# Empty secrets: the migration fills those that are empty, so that Terraform's state contains no value.

resource "google_secret_manager_secret" "this" {
  for_each = var.secrets

  secret_id = each.value

  replication {
    user_managed {
      replicas {
        location = var.location
      }
    }
  }
}
