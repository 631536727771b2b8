output "account" {
  description = "Full name of the service account that builds."
  value       = google_service_account.build.name
}

output "images" {
  description = "Image of each package."
  value       = { for name, package in local.packages : name => package.image }
}

output "sources" {
  description = "Location of each package."
  # who builds from them must be allowed to read them
  value      = { for name, object in google_storage_bucket_object.package : name => "gs://${object.bucket}/${object.name}" }
  depends_on = [google_storage_bucket_iam_member.reads_packages, google_artifact_registry_repository_iam_member.writes_images]
}

output "requests" {
  description = "The request of Cloud Run's API (projects.locations.builds:submit) that builds each image."
  value = {
    for name, object in google_storage_bucket_object.package : name => {
      storageSource  = { bucket = object.bucket, object = object.name }
      imageUri       = local.packages[name].image
      serviceAccount = google_service_account.build.name
      buildpackBuild = { functionTarget = "function", baseImage = var.base_image }
    }
  }
  depends_on = [google_storage_bucket_iam_member.reads_packages, google_artifact_registry_repository_iam_member.writes_images]
}
