# Existing resources are used instead of new ones.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { cluster = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine" } }
}

run "everything_created" {
  assert {
    condition     = length(module.database) == 1 && length(module.nats) == 1 && length(module.results) == 1 && length(module.key) == 1
    error_message = "without existing resources, everything is created"
  }

  assert {
    condition     = module.nats[0].hosts == ["nats-1.noetl.internal", "nats-2.noetl.internal", "nats-3.noetl.internal"]
    error_message = "NATS has three nodes"
  }

  assert {
    condition     = local.environment["worker"].NOETL_NATS_URL == "tls://nats-1.noetl.internal:4222,tls://nats-2.noetl.internal:4222,tls://nats-3.noetl.internal:4222"
    error_message = "clients get the addresses of all nodes, over TLS"
  }

  assert {
    condition     = toset([for environment in local.environment : environment.NOETL_NATS_REPLICAS]) == toset(["3"])
    error_message = "streams are on all three nodes"
  }

  assert {
    condition     = contains(keys(jsondecode(local.environment["control_plane"].NOETL_PROVISION)), "nats_server/nats-1.noetl.internal,nats-2.noetl.internal,nats-3.noetl.internal")
    error_message = "the control plane creates the nodes' certificate, for their host names"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker"].NOETL_SECRETS))) == toset(["nats_password", "nats_ca", "service_token"])
    error_message = "a worker gets the password and the certificate authority, not the nodes' key"
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_DATABASE_URL == "postgresql://noetl@noetl.abc.eu-central-1.rds.amazonaws.com:5432/noetl?sslmode=require"
    error_message = "the database's URL has no password"
  }

  assert {
    condition     = jsondecode(local.environment["control_plane"].NOETL_SECRETS).database_url == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-AbCdEf"
    error_message = "the password is the one that RDS keeps"
  }
}

run "vpc" {
  variables {
    network = { existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] } }
  }

  assert {
    condition     = output.vpc_id == "vpc-1" && module.network.subnet_ids == tolist(["subnet-1", "subnet-2"]) && module.network.cidr == "10.1.0.0/16"
    error_message = "functions, database and NATS are in the existing VPC"
  }
}

run "database" {
  variables {
    database = { existing = { url = "postgresql://engine@db.example.org:6543/noetl?sslmode=verify-full", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf", port = 6543, cidr = "10.9.0.0/24" } }
  }

  assert {
    condition     = length(module.database) == 0
    error_message = "no database is created"
  }

  assert {
    condition     = local.environment["reconciler"].NOETL_DATABASE_URL == "postgresql://engine@db.example.org:6543/noetl?sslmode=verify-full" && jsondecode(local.environment["reconciler"].NOETL_SECRETS).database_url == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"
    error_message = "the functions use the existing database"
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.database[0].from_port == 6543 && aws_vpc_security_group_egress_rule.database[0].cidr_ipv4 == "10.9.0.0/24"
    error_message = "the functions may connect to the existing database"
  }
}

run "database_iam_auth" {
  variables {
    database = { auth = "iam", existing = { url = "postgresql://engine@db.example.org/noetl", resource_arns = ["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/engine"] } }
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_DATABASE_AUTH == "iam" && !contains(keys(jsondecode(local.environment["control_plane"].NOETL_SECRETS)), "database_url")
    error_message = "with authentication by role there is no password to read"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["reconciler"]).Statement : statement.Resource if statement.Sid == "ConnectToDatabase"] == [["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/engine"]]
    error_message = "the role may connect as that user to that database"
  }
}

run "aurora_proxy_iam_auth" {
  variables {
    database = { kind = "aurora", min_acu = 0, proxy = true, auth = "iam" }
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_DATABASE_URL == "postgresql://noetl@noetl.proxy-abc.eu-central-1.rds.amazonaws.com:5432/noetl?sslmode=require"
    error_message = "functions connect to the RDS Proxy"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["control_plane"]).Statement : statement.Resource if statement.Sid == "ConnectToDatabase"] == [["arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/noetl"]]
    error_message = "functions authenticate with their roles"
  }
}

run "nats" {
  variables {
    nats = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf", ca_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ca-AbCdEf", replicas = 5 } }
  }

  assert {
    condition     = toset([for environment in local.environment : environment.NOETL_NATS_REPLICAS]) == toset(["5"])
    error_message = "streams are on as many nodes as existing.replicas says"
  }

  assert {
    condition     = length(module.nats) == 0 && !contains(keys(local.environment["worker"]), "NOETL_NATS_URL")
    error_message = "no cluster is created"
  }

  assert {
    condition     = jsondecode(local.environment["gateway"].NOETL_SECRETS).nats_url == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" && jsondecode(local.environment["gateway"].NOETL_SECRETS).nats_ca == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ca-AbCdEf"
    error_message = "the functions read the URL and the certificate authority of the existing NATS"
  }
}

run "bucket" {
  variables {
    results = { existing = "my-results" }
  }

  assert {
    condition     = length(module.results) == 0 && output.result_bucket == "my-results" && local.environment["worker"].NOETL_RESULT_URL == "s3://my-results/results"
    error_message = "results go to the existing bucket"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["worker"]).Statement : statement.Resource if statement.Sid == "ReadWriteResults"] == [["arn:aws:s3:::my-results/results/*"]]
    error_message = "the worker may write only below the prefix of the results"
  }
}

run "key" {
  variables {
    encryption = { key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mine", extra_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/theirs"] }
  }

  assert {
    condition     = length(module.key) == 0 && local.key_arn == "arn:aws:kms:eu-central-1:123456789012:key/mine"
    error_message = "no key is created"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["gateway"]).Statement : toset(statement.Resource) if statement.Sid == "Decrypt"] == [toset(["arn:aws:kms:eu-central-1:123456789012:key/mine", "arn:aws:kms:eu-central-1:123456789012:key/theirs"])]
    error_message = "functions may decrypt with the existing key and with extra_key_arns"
  }
}

run "no_key" {
  variables {
    encryption = { create = false }
  }

  assert {
    condition     = local.key_arn == null && length([for statement in jsondecode(output.policies["worker"]).Statement : statement if contains(["Encrypt", "Decrypt"], statement.Sid)]) == 0
    error_message = "without a key of the deployment, each service uses its own, and no policy names a key"
  }
}

run "everything_existing" {
  variables {
    network       = { existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] } }
    database      = { existing = { url = "postgresql://db.example.org/noetl", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
    nats          = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
    results       = { existing = "my-results" }
    encryption    = { key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mine" }
    observability = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:ops" }
  }

  assert {
    condition     = length(module.database) + length(module.nats) + length(module.results) + length(module.key) == 0
    error_message = "nothing but the functions is created"
  }

  assert {
    condition     = output.alarms.topic_arn == "arn:aws:sns:eu-central-1:123456789012:ops"
    error_message = "alarms go to the existing topic"
  }
}
