# For every validation of the root module, a value that it refuses. Each run gives each variable one such value at most, so
# that no validation stands in for another. What concerns functions.yaml is refused by the module `table`, whose own tests try
# it.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
}

run "first" {
  command = plan

  variables {
    name          = "NoETL"
    project       = "123456789012"
    region        = "Frankfurt"
    labels        = { Owner = "me" }
    endpoint_url  = "http://127.0.0.1:8080/"
    package       = { directory = "./tests/nothing" }
    operators     = ["ann@example.org"]
    pools         = { gpu = { max_instances = 0 } }
    network       = { cidr = "10.64.0.0/16" }
    database      = {}
    nats          = { cluster = { image = "nats:2.12.1-alpine" } }
    results       = { expire_days = -1 }
    events        = { publishers = ["allUsers"] }
    encryption    = { create = true }
    secrets       = { rotation_days = 90 }
    http          = { rate = 500 }
    observability = { emails = ["ops@example.org"] }
    budget        = { usd = 10, emails = ["ops@example.org"] }
  }

  expect_failures = [
    var.name,
    var.project,
    var.region,
    var.labels,
    var.endpoint_url,
    var.package,
    var.operators,
    var.pools,
    var.network,
    var.database,
    var.nats,
    var.results,
    var.events,
    var.encryption,
    var.secrets,
    var.http,
    var.observability,
    var.budget,
  ]
}

run "second" {
  command = plan

  variables {
    network  = { existing = { network = "ours", subnetwork = "functions", egress = "none" } }
    database = { auth = "iam", existing = { url = "postgresql://db.example.org/noetl", secret_id = "database-password" } }
    nats     = { existing = { secret_id = "projects/my-project/secrets/nats/versions/1" } }
    secrets  = { recovery_days = 7 }
    events   = { buckets = ["gs://orders"] }
  }

  expect_failures = [var.network, var.database, var.nats, var.secrets, var.events]
}

run "third" {
  command = plan

  variables {
    database = { existing = { url = "postgresql://noetl:secret@db.example.org/noetl", secret_id = "database-password" } }
    nats     = { existing = { secret_id = "nats-url", replicas = 2 } }
    events   = { subscriptions = ["orders"] }
  }

  expect_failures = [var.database, var.nats, var.events]
}

run "fourth" {
  command = plan

  variables {
    database = { existing = { url = "postgresql://db.example.org/noetl", secret_id = "projects/my-project/secrets/database/versions/latest" } }
  }

  expect_failures = [var.database]
}
