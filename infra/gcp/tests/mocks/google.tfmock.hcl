# Mocked answers of Google Cloud, in the formats that the configuration parses.

mock_resource "google_cloud_run_v2_service" {
  defaults = { uri = "https://noetl-mocked-abc123-ey.a.run.app" }
}

mock_resource "google_secret_manager_secret" {
  defaults = { project = "my-project" }
}

mock_resource "google_service_account" {
  defaults = { name = "projects/my-project/serviceAccounts/mocked@my-project.iam.gserviceaccount.com" }
}

mock_resource "google_pubsub_topic" {
  defaults = { id = "projects/my-project/topics/mocked" }
}

mock_data "google_storage_project_service_account" {
  defaults = { member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
}
