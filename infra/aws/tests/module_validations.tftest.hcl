# For every validation of the modules, a value that it refuses.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "function_name" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    limits      = { memory_mb = 512, timeout_s = 60 }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    name        = "noetl_gateway"
  }

  expect_failures = [var.name]
}

run "function_architecture" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    limits      = { memory_mb = 512, timeout_s = 60 }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    code        = { bucket = "code", key = "1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "amd64" }
  }

  expect_failures = [var.code]
}

run "function_memory" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    limits      = { memory_mb = 64, timeout_s = 60 }
  }

  expect_failures = [var.limits]
}

run "function_timeout" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    limits      = { memory_mb = 512, timeout_s = 901 }
  }

  expect_failures = [var.limits]
}

run "function_scratch" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    limits      = { memory_mb = 512, timeout_s = 60, scratch_mb = 128 }
  }

  expect_failures = [var.limits]
}

run "function_wildcard_action" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    limits      = { memory_mb = 512, timeout_s = 60 }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    policy      = { All = { actions = ["s3:*"], resources = ["arn:aws:s3:::one/*"] } }
  }

  expect_failures = [var.policy]
}

run "function_unnamed_resource" {
  command = plan

  module {
    source = "../modules/aws/function"
  }

  variables {
    name        = "noetl-gateway"
    description = "A function"
    code        = { bucket = "code", key = "gateway/1.zip", sha256 = "AKE=", handler = "aws.handler", runtime = "python3.12", architecture = "arm64" }
    limits      = { memory_mb = 512, timeout_s = 60 }
    network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    policy      = { All = { actions = ["s3:GetObject"], resources = ["*"] } }
  }

  expect_failures = [var.policy]
}

run "release_batch" {
  command = plan

  module {
    source = "../modules/aws/release"
  }

  variables {
    function = { name = "noetl-worker", version = "1" }
    queue    = { arn = "arn:aws:sqs:eu-central-1:123456789012:q", batch_size = 11 }
  }

  expect_failures = [var.queue]
}

run "release_concurrency" {
  command = plan

  module {
    source = "../modules/aws/release"
  }

  variables {
    function = { name = "noetl-worker", version = "1" }
    queue    = { arn = "arn:aws:sqs:eu-central-1:123456789012:q", max_concurrency = 1 }
  }

  expect_failures = [var.queue]
}

run "release_minutes" {
  command = plan

  module {
    source = "../modules/aws/release"
  }

  variables {
    function = { name = "noetl-worker", version = "1" }
    schedule = { every_minutes = 0, input = "{}", dead_arn = "arn:aws:sqs:eu-central-1:123456789012:d" }
  }

  expect_failures = [var.schedule]
}

run "queue_visibility" {
  command = plan

  module {
    source = "../modules/aws/queue"
  }

  variables {
    name         = "noetl-shared"
    visibility_s = 50000
  }

  expect_failures = [var.visibility_s]
}

run "queue_receives" {
  command = plan

  module {
    source = "../modules/aws/queue"
  }

  variables {
    name         = "noetl-shared"
    visibility_s = 930
    max_receives = 0
  }

  expect_failures = [var.max_receives]
}

run "api_credentials_for_everybody" {
  command = plan

  module {
    source = "../modules/aws/api"
  }

  variables {
    name     = "noetl-gateway"
    function = { name = "noetl-gateway", alias = "live", invoke_arn = "arn" }
    cors     = { origins = ["*"] }
  }

  expect_failures = [var.cors]
}

run "api_nothing_goes_through" {
  command = plan

  module {
    source = "../modules/aws/api"
  }

  variables {
    name     = "noetl-gateway"
    function = { name = "noetl-gateway", alias = "live", invoke_arn = "arn" }
    throttle = { rate = 0 }
  }

  expect_failures = [var.throttle]
}

run "network_cidr" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    name   = "noetl"
    region = "eu-central-1"
    vpc    = { cidr = "10.0.0.0/28" }
  }

  expect_failures = [var.vpc]
}

run "network_zones" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    name   = "noetl"
    region = "eu-central-1"
    vpc    = { zones = 1 }
  }

  expect_failures = [var.vpc]
}

run "network_nat" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    name   = "noetl"
    region = "eu-central-1"
    vpc    = { nat = "two" }
  }

  expect_failures = [var.vpc]
}

run "network_one_subnet" {
  command = plan

  module {
    source = "../modules/aws/network"
  }

  variables {
    name     = "noetl"
    region   = "eu-central-1"
    existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  expect_failures = [var.existing]
}

run "database_kind" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    engine  = { kind = "mysql" }
  }

  expect_failures = [var.engine]
}

run "database_version" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    engine  = { version = "13" }
  }

  expect_failures = [var.engine]
}

run "database_storage" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    engine  = { storage_gb = 100, max_storage_gb = 50 }
  }

  expect_failures = [var.engine]
}

run "database_acu" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    engine  = { kind = "aurora", min_acu = 4, max_acu = 2 }
  }

  expect_failures = [var.engine]
}

run "database_pause" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    engine  = { kind = "aurora", min_acu = 0, pause_s = 60 }
  }

  expect_failures = [var.engine]
}

run "database_backups" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name       = "noetl"
    network    = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    protection = { backup_days = 0 }
  }

  expect_failures = [var.protection]
}

run "database_role_without_proxy" {
  command = plan

  module {
    source = "../modules/aws/database"
  }

  variables {
    name    = "noetl"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    proxy   = { iam = true }
  }

  expect_failures = [var.proxy]
}

run "nats_count" {
  command = plan

  module {
    source = "../modules/aws/nats"
  }

  variables {
    name    = "noetl-nats"
    region  = "eu-central-1"
    hosts   = ["nats-1", "nats-2", "nats-3"]
    domain  = "noetl.internal"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
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
    name    = "noetl-nats"
    region  = "eu-central-1"
    hosts   = ["nats-1", "nats-2", "nats-3"]
    domain  = "noetl.internal"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
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
    name    = "noetl-nats"
    region  = "eu-central-1"
    hosts   = ["nats-1", "nats-2", "nats-3"]
    domain  = "noetl.internal"
    network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
    secrets = { password_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf", server_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" }
    nodes   = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine", cpu = 1024, memory_mb = 1024 }
  }

  expect_failures = [var.nodes]
}

run "bucket_name" {
  command = plan

  module {
    source = "../modules/aws/bucket"
  }

  variables {

    name = "NoETL"
  }

  expect_failures = [var.name]
}

run "bucket_expiry" {
  command = plan

  module {
    source = "../modules/aws/bucket"
  }

  variables {
    name   = "noetl-results"
    expiry = { days = 0 }
  }

  expect_failures = [var.expiry]
}

run "key_deletion" {
  command = plan

  module {
    source = "../modules/aws/key"
  }

  variables {
    name          = "noetl"
    account       = { id = "123456789012", region = "eu-central-1", partition = "aws" }
    deletion_days = 3
  }

  expect_failures = [var.deletion_days]
}

run "secrets_recovery" {
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

run "observability_two_places_for_alarms" {
  command = plan

  module {
    source = "../modules/aws/observability"
  }

  variables {
    name               = "noetl"
    region             = "eu-central-1"
    functions          = { worker = { name = "noetl-worker", timeout_s = 900 } }
    queues             = { shared = { name = "noetl-shared", dead_name = "noetl-shared-dead" } }
    scheduled_function = { name = "noetl-reconciler" }
    alarms             = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:ops", emails = ["ops@example.org"] }
  }

  expect_failures = [var.alarms]
}

run "observability_address" {
  command = plan

  module {
    source = "../modules/aws/observability"
  }

  variables {
    name               = "noetl"
    region             = "eu-central-1"
    functions          = { worker = { name = "noetl-worker", timeout_s = 900 } }
    queues             = { shared = { name = "noetl-shared", dead_name = "noetl-shared-dead" } }
    scheduled_function = { name = "noetl-reconciler" }
    alarms             = { emails = ["ops"] }
  }

  expect_failures = [var.alarms]
}

run "observability_budget_that_nobody_hears_of" {
  command = plan

  module {
    source = "../modules/aws/observability"
  }

  variables {
    name               = "noetl"
    region             = "eu-central-1"
    functions          = { worker = { name = "noetl-worker", timeout_s = 900 } }
    queues             = { shared = { name = "noetl-shared", dead_name = "noetl-shared-dead" } }
    scheduled_function = { name = "noetl-reconciler" }
    budget             = { usd = 10, emails = [] }
  }

  expect_failures = [var.budget]
}
