# For every validation of the root module, a value that it refuses.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
}

run "name_with_capitals" {
  command = plan

  variables {
    name = "NoETL"
  }

  expect_failures = [var.name]
}

run "region_without_a_number" {
  command = plan

  variables {
    region = "europe"
  }

  expect_failures = [var.region]
}

run "tags_of_aws" {
  command = plan

  variables {
    tags = { "aws:owner" = "me" }
  }

  expect_failures = [var.tags]
}

run "endpoint_with_a_path" {
  command = plan

  variables {
    endpoint_url = "http://127.0.0.1:4566/"
  }

  expect_failures = [var.endpoint_url]
}

run "package_that_is_not_there" {
  command = plan

  variables {
    package = { directory = "./tests/nothing" }
  }

  expect_failures = [var.package]
}

run "unknown_function" {
  command = plan

  variables {
    functions = { wroker = { memory_mb = 512 } }
  }

  expect_failures = [var.functions]
}

run "no_instance_at_all" {
  command = plan

  variables {
    functions = { worker = { max_instances = 0 } }
  }

  expect_failures = [var.functions]
}

run "secret_among_settings" {
  command = plan

  variables {
    functions = { gateway = { settings = { service_token = "abc" } } }
  }

  expect_failures = [var.functions]
}

run "pool_that_is_there" {
  command = plan

  variables {
    pools = { data = {} }
  }

  expect_failures = [var.pools]
}

run "pool_like_nothing" {
  command = plan

  variables {
    pools = { gpu = { like = "gateway" } }
  }

  expect_failures = [var.pools]
}

run "kind_in_two_pools" {
  command = plan

  variables {
    pools = {
      one = { kinds = ["python"] }
      two = { kinds = ["python"] }
    }
  }

  expect_failures = [var.pools]
}

run "pool_of_one" {
  command = plan

  variables {
    pools = { gpu = { max_instances = 1 } }
  }

  expect_failures = [var.pools]
}

run "issuer_without_audience" {
  command = plan

  variables {
    settings = { oidc_issuer = "https://id.example.org/" }
  }

  expect_failures = [var.settings]
}

run "issuer_without_tls" {
  command = plan

  variables {
    settings = { oidc_issuer = "http://id.example.org/", oidc_audience = "noetl" }
  }

  expect_failures = [var.settings]
}

run "log_level" {
  command = plan

  variables {
    settings = { log_level = "TRACE" }
  }

  expect_failures = [var.settings]
}

run "no_way_to_aws" {
  command = plan

  variables {
    network = { endpoints = ["sqs"] }
  }

  expect_failures = [var.network]
}

run "no_https" {
  command = plan

  variables {
    network = { egress_ports = [5432] }
  }

  expect_failures = [var.network]
}

run "database_auth" {
  command = plan

  variables {
    database = { auth = "kerberos" }
  }

  expect_failures = [var.database]
}

run "role_without_proxy" {
  command = plan

  variables {
    database = { auth = "iam" }
  }

  expect_failures = [var.database]
}

run "role_without_resource" {
  command = plan

  variables {
    database = { auth = "iam", existing = { url = "postgresql://db.example.org/noetl" } }
  }

  expect_failures = [var.database]
}

run "database_without_password" {
  command = plan

  variables {
    database = { existing = { url = "postgresql://db.example.org/noetl" } }
  }

  expect_failures = [var.database]
}

run "database_with_password_in_url" {
  command = plan

  variables {
    database = { existing = { url = "postgresql://noetl:secret@db.example.org/noetl", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
  }

  expect_failures = [var.database]
}

run "proxy_of_an_existing_database" {
  command = plan

  variables {
    database = { proxy = true, existing = { url = "postgresql://db.example.org/noetl", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
  }

  expect_failures = [var.database]
}

run "no_nats" {
  command = plan

  variables {
    nats = {}
  }

  expect_failures = [var.nats]
}

run "nats_from_a_public_registry" {
  command = plan

  variables {
    nats = { cluster = { image = "docker.io/library/nats:2.12.1-alpine" } }
  }

  expect_failures = [var.nats]
}

run "nats_of_any_version" {
  command = plan

  variables {
    nats = { cluster = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:latest" } }
  }

  expect_failures = [var.nats]
}

run "nats_without_a_majority" {
  command = plan

  variables {
    nats = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf", replicas = 2 } }
  }

  expect_failures = [var.nats]
}

run "results_that_expired_before" {
  command = plan

  variables {
    results = { expire_days = -1 }
  }

  expect_failures = [var.results]
}

run "key_by_alias" {
  command = plan

  variables {
    encryption = { key_arn = "alias/mine" }
  }

  expect_failures = [var.encryption]
}

run "rotation_too_late" {
  command = plan

  variables {
    secrets = { rotation_days = 400 }
  }

  expect_failures = [var.secrets]
}

run "no_grace" {
  command = plan

  variables {
    secrets = { grace_days = 0 }
  }

  expect_failures = [var.secrets]
}

run "log_retention" {
  command = plan

  variables {
    observability = { log_retention_days = 31 }
  }

  expect_failures = [var.observability]
}
