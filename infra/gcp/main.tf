# The infrastructure that the functions share. The functions themselves are in functions.tf.

# ---- secrets

locals {
  service_roles = ["control_plane", "gateway", "operator", "reconciler", "worker"]
  # short names; the migration fills them
  secrets = concat(
    ["token_key", "encryption_keys"],
    [for role in local.service_roles : "service_token/${role}"],
    length(local.direct) == 0 ? [] : ["database_role"],
  )
  # secrets of yours, by their full IDs
  existing_secrets = {
    for secret, id in {
      database_url = try(var.database.existing.secret_id, null)
      nats_url     = try(var.nats.existing.secret_id, null)
      nats_ca      = try(var.nats.existing.ca_secret_id, null)
    } : secret => startswith(id, "projects/") ? id : "projects/${var.project}/secrets/${id}" if id != null
  }
}

module "secrets" {
  source = "../modules/gcp/secrets"

  location = var.region
  # noetl-service-token-worker
  secrets = { for secret in local.secrets : secret => "${var.name}-${replace(replace(secret, "/", "-"), "_", "-")}" }
}

# ---- buckets

module "results" {
  source = "../modules/gcp/bucket"
  count  = var.results.existing == null ? 1 : 0

  name          = "${var.name}-results-${var.project}"
  location      = var.region
  versioned     = var.results.versioned
  expiry        = { prefix = "results/", days = var.results.expire_days == 0 ? null : var.results.expire_days }
  force_destroy = var.results.force_destroy
}

locals {
  result_bucket = var.results.existing != null ? var.results.existing : module.results[0].name
}

# ---- from packages to images

module "images" {
  source = "../modules/gcp/images"

  name       = var.name
  project    = var.project
  location   = var.region
  base_image = "python${replace(local.manifest.python, ".", "")}"
  packages = {
    for name in module.table.packages : name => {
      file   = "${var.package.directory}/${local.manifest.functions[name].file}"
      sha256 = local.manifest.functions[name].sha256
    }
  }
}

# ---- persons

resource "google_service_account" "operator" {
  account_id   = "${var.name}-operator"
  display_name = "Operators of ${var.name}"
}

resource "google_service_account_iam_member" "operator" {
  for_each = var.operators

  service_account_id = google_service_account.operator.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# the operator's service token, which they present to the control plane
resource "google_secret_manager_secret_iam_member" "operator" {
  secret_id = module.secrets.ids["service_token/operator"]
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.operator.email}"
}
