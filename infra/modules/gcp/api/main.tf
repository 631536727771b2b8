# Who may call a function over HTTP.

resource "google_cloud_run_v2_service_iam_member" "caller" {
  for_each = var.callers

  location = var.function.location
  name     = var.function.name
  role     = "roles/run.invoker"
  member   = each.value
}
