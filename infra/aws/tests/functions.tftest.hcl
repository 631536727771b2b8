# How the functions of functions/functions.yaml are wired.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
}

run "default" {
  assert {
    condition     = toset(keys(output.functions)) == toset(["gateway", "control_plane", "reconciler", "worker", "worker_data"])
    error_message = "one function for each row of functions.yaml that is for AWS"
  }

  assert {
    condition     = output.functions["worker_data"].name == "noetl-worker-data" && output.functions["worker_data"].log_group == "/aws/lambda/noetl-worker-data"
    error_message = "a function's name is the deployment's and its own, with hyphens"
  }

  assert {
    condition     = toset(keys(output.queues)) == toset(["shared", "data", "reconciler"])
    error_message = "a queue for each function that is invoked, named after its pool"
  }

  assert {
    condition     = alltrue([for function in output.functions : function.alias == "live" && function.version == "7"])
    error_message = "each function has a version and the alias live"
  }

  assert {
    condition     = aws_s3_object.code["gateway"].key == "gateway/00a1.zip"
    error_message = "the key of a package contains its hash"
  }

  assert {
    condition     = local.runtime == "python3.12"
    error_message = "the runtime is the one that the packages were built for"
  }
}

run "environment" {
  command = plan

  assert {
    condition     = alltrue([for name, environment in local.environment : environment.NOETL_HOST == "aws" && environment.NOETL_FUNCTION == name])
    error_message = "each function gets its host and its name"
  }

  assert {
    condition     = local.environment["gateway"].NOETL_CONTROL_PLANE_URL == "lambda://noetl-control-plane:live" && local.environment["worker"].NOETL_CONTROL_PLANE_URL == "lambda://noetl-control-plane:live"
    error_message = "gateway and workers call the control plane through Lambda, by its alias"
  }

  assert {
    condition     = [for name, environment in local.environment : name if contains(keys(environment), "NOETL_PUBLIC_URL")] == ["control_plane"]
    error_message = "the control plane alone gets the URL of the gateway, with which it makes callback URLs"
  }

  assert {
    condition     = local.environment["worker_data"].NOETL_POOL == "data" && !contains(keys(local.environment["gateway"]), "NOETL_POOL")
    error_message = "only workers get a pool"
  }

  assert {
    condition     = jsondecode(local.environment["control_plane"].NOETL_POOLS).duckdb == "data"
    error_message = "functions that issue commands get the pool of each tool kind"
  }

  assert {
    condition     = !contains(keys(local.environment["gateway"]), "NOETL_DATABASE_URL") && !contains(keys(local.environment["worker"]), "NOETL_DATABASE_URL")
    error_message = "neither gateway nor workers get the database's URL"
  }

  assert {
    condition     = alltrue([for environment in local.environment : !contains(keys(environment), "AWS_ENDPOINT_URL")])
    error_message = "on AWS itself nothing overrides the endpoints"
  }
}

run "secrets" {
  assert {
    condition     = toset(keys(jsondecode(local.environment["control_plane"].NOETL_SECRETS))) == toset(["database_url", "nats_url", "service_token", "token_key", "encryption_keys"])
    error_message = "the control plane reads the secrets that its row names"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker"].NOETL_SECRETS))) == toset(["nats_url", "service_token"])
    error_message = "a worker reads its token and the URL of NATS, and no key"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["control_plane"].NOETL_PROVISION))) == toset(["token_key", "encryption_keys", "service_token/gateway", "service_token/control_plane", "service_token/reconciler", "service_token/worker", "service_token/operator"])
    error_message = "the control plane creates the missing secrets"
  }

  assert {
    condition     = alltrue([for name, environment in local.environment : name == "control_plane" || !contains(keys(environment), "NOETL_PROVISION")])
    error_message = "only the control plane creates secrets"
  }

  assert {
    condition     = length(aws_secretsmanager_secret_rotation.token) == 5 && alltrue([for rotation in aws_secretsmanager_secret_rotation.token : rotation.rotate_immediately == false])
    error_message = "tokens rotate, but not before the migration has created them"
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_TOKEN_DAYS == "120"
    error_message = "a token is valid for rotation_days and grace_days together"
  }

  assert {
    condition     = module.observability.evaluation_periods["control_plane-errors"] == 1 && module.observability.evaluation_periods["worker-errors"] == 3
    error_message = "a single failed rotation raises an alarm"
  }
}

run "no_token_rotation" {
  variables {
    secrets = { rotation_days = 0 }
  }

  assert {
    condition     = length(aws_secretsmanager_secret_rotation.token) == 0 && !contains(keys(local.environment["control_plane"]), "NOETL_TOKEN_DAYS")
    error_message = "without rotation_days nothing rotates, and tokens are valid for the engine's default time"
  }
}

run "invokes" {
  assert {
    condition     = toset(keys(jsondecode(local.environment["control_plane"].NOETL_FUNCTION_URLS))) == toset(["shared", "data", "reconciler"])
    error_message = "the control plane may invoke every function"
  }

  assert {
    condition     = keys(jsondecode(local.environment["worker"].NOETL_FUNCTION_URLS)) == ["shared"]
    error_message = "a worker invokes its own pool"
  }

  assert {
    condition     = { for name, row in local.functions : name => row.every_s if row.every_s != null } == { reconciler = 1 } && module.table.queues == { reconciler = "reconciler", shared = "worker", data = "worker_data" }
    error_message = "a schedule invokes the reconciler; queues invoke the reconciler and the workers"
  }
}

run "policies" {
  assert {
    condition = alltrue(flatten([
      for policy in values(output.policies) : [
        for statement in jsondecode(policy).Statement : [for action in statement.Action : !strcontains(action, "*")]
      ]
    ]))
    error_message = "no wildcard actions"
  }

  assert {
    condition = alltrue(flatten([
      for policy in values(output.policies) : [
        for statement in jsondecode(policy).Statement :
        statement.Effect == "Deny" || statement.Sid == "NetworkInterfaces" || !contains(statement.Resource, "*")
      ]
    ]))
    error_message = "resources are named, except for the network interfaces that Lambda creates"
  }

  assert {
    condition     = length([for statement in jsondecode(output.policies["gateway"]).Statement : statement if statement.Sid == "SendToQueues" || statement.Sid == "ConnectToDatabase" || statement.Sid == "ReadWriteResults"]) == 0
    error_message = "the gateway may neither send to queues nor reach the database or results"
  }
}

run "overrides" {
  variables {
    functions = {
      worker        = { memory_mb = 4096, max_instances = 200, scratch_mb = 2048, batch_size = 5, settings = { lease = "60" } }
      control_plane = { settings = { database_connections = "8" } }
    }
    settings = { public_url = "https://noetl.example.org" }
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_PUBLIC_URL == "https://noetl.example.org"
    error_message = "a domain takes the place of the API's own URL"
  }

  assert {
    condition     = local.functions["worker"].memory_mb == 4096 && local.functions["worker"].max_instances == 200 && local.functions["worker"].timeout_s == 900
    error_message = "an override changes only the fields that it names"
  }

  assert {
    condition     = local.environment["worker"].NOETL_LEASE == "60" && local.environment["control_plane"].NOETL_DATABASE_CONNECTIONS == "8"
    error_message = "settings become environment variables"
  }

  assert {
    condition     = !contains(keys(local.environment["worker_data"]), "NOETL_LEASE")
    error_message = "settings of one function do not reach another"
  }
}

run "additional_pools" {
  variables {
    pools = { gpu = { like = "worker_data", kinds = ["python"], max_instances = 3 } }
  }

  assert {
    condition     = output.functions["worker_gpu"].name == "noetl-worker-gpu" && contains(keys(output.queues), "gpu")
    error_message = "a pool is a function and a queue"
  }

  assert {
    condition     = local.environment["worker_gpu"].NOETL_POOL == "gpu" && jsondecode(local.environment["control_plane"].NOETL_POOLS).python == "gpu" && jsondecode(local.environment["control_plane"].NOETL_POOLS).duckdb == "data"
    error_message = "commands of the kinds of a pool go to that pool"
  }

  assert {
    condition     = toset(keys(aws_s3_object.code)) == toset(["gateway", "control_plane", "reconciler", "worker", "worker_data"])
    error_message = "a pool runs the package of the function that `like` names"
  }
}

run "http" {
  variables {
    http = { control_plane = true }
  }

  assert {
    condition     = output.gateway_url == "https://abc.execute-api.eu-central-1.amazonaws.com" && output.control_plane_url != null
    error_message = "with http.control_plane the control plane has an API of its own"
  }
}

run "http_gateway_only" {
  assert {
    condition     = keys(module.api) == ["gateway"] && output.control_plane_url == null
    error_message = "the control plane has no public API unless http.control_plane is set"
  }
}

run "emulator" {
  variables {
    endpoint_url = "http://127.0.0.1:4566"
  }

  assert {
    condition     = alltrue([for environment in local.environment : environment.AWS_ENDPOINT_URL == "http://127.0.0.1:4566"])
    error_message = "functions on an emulator call the emulator"
  }

  assert {
    condition     = startswith(output.gateway_url, "http://127.0.0.1:4566/_aws/execute-api/")
    error_message = "the gateway's URL is a path at the emulator, which needs no DNS"
  }
}

run "result_expiry" {
  assert {
    condition     = module.results[0].expires == { "results/" = 90 }
    error_message = "only results expire, after 90 days"
  }
}

run "no_result_expiry" {
  variables {
    results = { expire_days = 0 }
  }

  assert {
    condition     = length(module.results[0].expires) == 0
    error_message = "the bucket deletes no results"
  }
}
