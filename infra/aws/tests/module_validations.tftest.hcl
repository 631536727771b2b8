# For every validation of the modules, a value that it refuses. Each run gives each variable one such value at most, so that
# no validation stands in for another; the values of the file are valid, and a module takes those that it declares.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "noetl"
  region             = "eu-central-1"
  description        = "A function"
  code               = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "main.function", runtime = "python3.12", architecture = "arm64" }
  limits             = { memory_mb = 512, timeout_s = 60 }
  network            = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], security_group_ids = ["sg-1"], client_security_group_id = "sg-1" }
  function           = { name = "noetl-gateway", version = "1", alias = "live", invoke_arn = "arn" }
  functions          = { worker = { name = "noetl-worker", timeout_s = 900 } }
  queues             = { shared = { name = "noetl-shared", dead_name = "noetl-shared-dead" } }
  scheduled_function = { name = "noetl-reconciler" }
  account            = { id = "123456789012", region = "eu-central-1", partition = "aws" }
  hosts              = ["nats-1", "nats-2", "nats-3"]
  domain             = "noetl.internal"
}

run "function_memory" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name   = "noetl_gateway"
    code   = { bucket = "code", key = "1.zip", sha256 = "AKE=", handler = "main.function", runtime = "python3.12", architecture = "amd64" }
    limits = { memory_mb = 64, timeout_s = 60 }
    access = { invokes = ["*"] }
  }

  expect_failures = [var.name, var.code, var.limits, var.access]
}

run "function_timeout" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    limits = { memory_mb = 512, timeout_s = 901 }
    access = { results = { verb = "list", bucket_arn = "arn:aws:s3:::one", prefix = "results/" } }
  }

  expect_failures = [var.limits, var.access]
}

run "function_scratch" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    limits = { memory_mb = 512, timeout_s = 60, scratch_mb = 128 }
  }

  expect_failures = [var.limits]
}

run "release_batch" {
  command = plan

  module {
    source = "../modules/aws/release"
  }

  variables {
    queue    = { arn = "arn:aws:sqs:eu-central-1:123456789012:q", batch_size = 11 }
    schedule = { every_minutes = 0, input = "{}", dead_arn = "arn:aws:sqs:eu-central-1:123456789012:d" }
  }

  expect_failures = [var.queue, var.schedule]
}

run "release_concurrency" {
  command = plan

  module {
    source = "../modules/aws/release"
  }

  variables {
    queue = { arn = "arn:aws:sqs:eu-central-1:123456789012:q", max_concurrency = 1 }
  }

  expect_failures = [var.queue]
}

run "queue" {
  command = plan

  module {
    source = "../modules/aws/queue"
  }

  variables {
    visibility_s = 50000
    max_receives = 0
  }

  expect_failures = [var.visibility_s, var.max_receives]
}

run "events" {
  command = plan

  module {
    source = "../modules/aws/events"
  }

  variables {
    queue_arn  = "arn:aws:sqs:eu-central-1:123456789012:noetl-reconciler"
    publishers = ["*"]
    buckets    = ["orders"]
  }

  expect_failures = [var.publishers, var.buckets]
}

run "api" {
  command = plan

  module {
    source = "../modules/aws/api"
  }

  variables {
    cors     = { origins = ["*"] }
    throttle = { rate = 0 }
  }

  expect_failures = [var.cors, var.throttle]
}

run "network_cidr" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    vpc      = { cidr = "10.0.0.0/28" }
    existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  expect_failures = [var.vpc, var.existing]
}

run "network_zones" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    vpc = { zones = 1 }
  }

  expect_failures = [var.vpc]
}

run "network_nat" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    vpc = { nat = "two" }
  }

  expect_failures = [var.vpc]
}

run "database_kind" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    engine     = { kind = "mysql" }
    protection = { backup_days = 0 }
    proxy      = { iam = true }
  }

  expect_failures = [var.engine, var.protection, var.proxy]
}

run "database_version" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    engine = { version = "13" }
  }

  expect_failures = [var.engine]
}

run "database_storage" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    engine = { storage_gb = 100, max_storage_gb = 50 }
  }

  expect_failures = [var.engine]
}

run "database_acu" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    engine = { kind = "aurora", min_acu = 4, max_acu = 2 }
  }

  expect_failures = [var.engine]
}

run "database_pause" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    engine = { kind = "aurora", min_acu = 0, pause_s = 60 }
  }

  expect_failures = [var.engine]
}

run "nats_count" {
  command = plan

  module {
    source = "../modules/aws/nats"
  }

  variables {
    secrets = { password_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf", server_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" }
    nodes   = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine", count = 2 }
  }

  expect_failures = [var.nodes]
}

run "nats_architecture" {
  command = plan

  module {
    source = "../modules/aws/nats"
  }

  variables {
    secrets = { password_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf", server_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" }
    nodes   = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine", architecture = "arm64" }
  }

  expect_failures = [var.nodes]
}

run "nats_size" {
  command = plan

  module {
    source = "../modules/aws/nats"
  }

  variables {
    secrets = { password_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf", server_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" }
    nodes   = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine", cpu = 1024, memory_mb = 1024 }
  }

  expect_failures = [var.nodes]
}

run "bucket" {
  command = plan

  module {
    source = "../modules/aws/bucket"
  }

  variables {
    name   = "NoETL"
    expiry = { days = 0 }
  }

  expect_failures = [var.name, var.expiry]
}

run "key" {
  command = plan

  module {
    source = "../modules/aws/key"
  }

  variables {
    deletion_days = 3
  }

  expect_failures = [var.deletion_days]
}

run "secrets" {
  command = plan

  module {
    source = "../modules/aws/secrets"
  }

  variables {
    secrets       = { one = { name = "noetl/one", description = "One" } }
    recovery_days = 3
  }

  expect_failures = [var.recovery_days]
}

run "observability_topic_and_emails" {
  command = plan

  module {
    source = "../modules/aws/observability"
  }

  variables {
    alarms = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:ops", emails = ["ops@example.org"] }
    budget = { usd = 10, emails = [] }
  }

  expect_failures = [var.alarms, var.budget]
}

run "observability_address" {
  command = plan

  module {
    source = "../modules/aws/observability"
  }

  variables {
    alarms = { emails = ["ops"] }
  }

  expect_failures = [var.alarms]
}
