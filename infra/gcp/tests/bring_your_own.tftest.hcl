# Existing resources are used instead of new ones.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
}

run "secrets_of_another_project" {
  variables {
    database = { existing = { url = "postgresql://engine@10.1.0.3:6543/noetl?sslmode=verify-full", secret_id = "projects/shared-project/secrets/engine" } }
    nats     = { existing = { secret_id = "projects/shared-project/secrets/nats", ca_secret_id = "nats-ca", replicas = 5 } }
  }

  assert {
    condition     = local.environment["reconciler"].NOETL_DATABASE_URL == "postgresql://engine@10.1.0.3:6543/noetl?sslmode=verify-full" && jsondecode(local.environment["reconciler"].NOETL_SECRETS).database_url == "projects/shared-project/secrets/engine"
    error_message = "the functions use the existing database"
  }

  assert {
    condition     = jsondecode(local.environment["gateway"].NOETL_SECRETS).nats_url == "projects/shared-project/secrets/nats" && jsondecode(local.environment["gateway"].NOETL_SECRETS).nats_ca == "projects/my-project/secrets/nats-ca"
    error_message = "the functions read the URL and the certificate authority of the existing NATS"
  }

  assert {
    condition     = toset([for environment in local.environment : environment.NOETL_NATS_REPLICAS if contains(keys(environment), "NOETL_NATS_REPLICAS")]) == toset(["5"])
    error_message = "streams are on as many nodes as existing.replicas says"
  }
}

run "bucket" {
  variables {
    results = { existing = "my-results" }
  }

  assert {
    condition     = length(module.results) == 0 && output.result_bucket == "my-results" && local.environment["worker"].NOETL_RESULT_URL == "gs://my-results/results"
    error_message = "results go to the existing bucket"
  }

  assert {
    condition     = contains([for one in output.roles["worker"] : one.resource if one.role == "roles/storage.objectUser"], "my-results")
    error_message = "the worker may write to it"
  }
}

run "network" {
  variables {
    network = { existing = { network = "ours", subnetwork = "functions" } }
  }

  assert {
    condition     = var.network.existing.egress == "private"
    error_message = "only private addresses are reached through the network, unless the input says otherwise"
  }
}
