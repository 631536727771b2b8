output "ids" {
  description = "Full IDs by short name: projects/<project>/secrets/<ID>."
  value       = { for name, secret in google_secret_manager_secret.this : name => "projects/${secret.project}/secrets/${secret.secret_id}" }
}
