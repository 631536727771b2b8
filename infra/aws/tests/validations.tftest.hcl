# For every validation of the root module, a value that it refuses. Each run gives each variable one such value at most, so
# that no validation stands in for another. A validation that reads another variable (nats: network; orchestrator: database) is
# evaluated only if that one is valid, so the two are never invalid in the same run. What concerns functions.yaml is refused by
# the module `table`, whose own tests try it.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
}

run "first" {
  command = plan

  variables {
    name          = "NoETL"
    region        = "europe"
    tags          = { "aws:owner" = "me" }
    package       = { directory = "./tests/nothing" }
    database      = { auth = "kerberos" }
    nats          = {}
    results       = { expire_days = -1 }
    events        = { buckets = ["s3://orders"] }
    encryption    = { key_arn = "alias/mine" }
    secrets       = { rotation_days = 400 }
    observability = { log_retention_days = 31 }
  }

  expect_failures = [
    var.name,
    var.region,
    var.tags,
    var.package,
    var.database,
    var.nats,
    var.results,
    var.events,
    var.encryption,
    var.secrets,
    var.observability,
  ]
}

run "second" {
  command = plan

  variables {
    database = { auth = "iam" }
    nats     = { cluster = { image = "docker.io/library/nats:2.12.1-alpine" } }
    secrets  = { grace_days = 0 }
    events   = { queues = ["orders"] }
  }

  expect_failures = [var.database, var.nats, var.secrets, var.events]
}

run "third" {
  command = plan

  variables {
    database = { auth = "iam", existing = { url = "postgresql://db.example.org/noetl" } }
    nats     = { cluster = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:latest" } }
  }

  expect_failures = [var.database, var.nats]
}

run "fourth" {
  command = plan

  variables {
    endpoint_url = "http://127.0.0.1:4566/"
    database     = { existing = { url = "postgresql://db.example.org/noetl" } }
    nats         = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf", replicas = 2 } }
  }

  expect_failures = [var.endpoint_url, var.database, var.nats]
}

run "fifth" {
  command = plan

  variables {
    network  = { endpoints = ["sqs"] }
    database = { existing = { url = "postgresql://noetl:secret@db.example.org/noetl", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
  }

  expect_failures = [var.network, var.database]
}

run "sixth" {
  command = plan

  variables {
    network  = { egress_ports = [5432] }
    database = { proxy = true, existing = { url = "postgresql://db.example.org/noetl", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
  }

  expect_failures = [var.network, var.database]
}

run "seventh" {
  command = plan

  variables {
    pools = { gpu = { max_instances = 1 } }
  }

  expect_failures = [var.pools]
}

run "eighth" {
  command = plan

  variables {
    pools        = { calls = { kinds = ["http"] } }
    orchestrator = { worker_calls = "direct" }
    database     = { auth = "iam", existing = { url = "postgresql://db.example.org/noetl", resource_arns = ["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/noetl"] } }
  }

  expect_failures = [var.orchestrator]
}
