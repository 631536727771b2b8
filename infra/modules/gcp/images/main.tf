# From packages to images: the bucket of the packages, the repository of the images, and the account that builds.

locals {
  # a new package is a new object and a new image; revisions that already run keep theirs
  packages = {
    for name, package in var.packages : name => {
      object = "${name}/${package.sha256}.tar.gz"
      image  = "${var.location}-docker.pkg.dev/${var.project}/${var.name}/${replace(name, "_", "-")}:${substr(package.sha256, 0, 16)}-${var.base_image}"
    }
  }
}

module "bucket" {
  source = "../bucket"

  name      = "${var.name}-code-${var.project}"
  location  = var.location
  versioned = false
  # it holds only packages, which `make package` can build again
  force_destroy = true
}

resource "google_storage_bucket_object" "package" {
  for_each = var.packages

  bucket = module.bucket.name
  name   = local.packages[each.key].object
  source = each.value.file

  lifecycle {
    # the name contains the hash of the package: the same package in another folder is not a change
    ignore_changes = [source, detect_md5hash]
  }
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: encrypted with Google's own key
  repository_id = var.name
  location      = var.location
  description   = "Images of the functions of ${var.name}"
  format        = "DOCKER"
}

# ---- who builds

resource "google_service_account" "build" {
  account_id   = "${var.name}-build"
  display_name = "Builds the images of ${var.name}"
}

resource "google_storage_bucket_iam_member" "reads_packages" {
  bucket = module.bucket.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.build.email}"
}

resource "google_artifact_registry_repository_iam_member" "writes_images" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:${google_service_account.build.email}"
}

# logs have no resource that is narrower than the project
resource "google_project_iam_member" "writes_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = "serviceAccount:${google_service_account.build.email}"
}
