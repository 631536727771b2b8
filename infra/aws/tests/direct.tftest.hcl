# Workers with the orchestrator in their own process: what they get, and that no other does.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package = { directory = "./tests/package" }
  nats    = { existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf" } }
  pools   = { calls = { kinds = ["http", "postgres"] }, gpu = { kinds = ["python"] } }
}

run "remote_by_default" {
  assert {
    condition     = length(local.direct) == 0 && !contains(keys(local.secrets), "database_role")
    error_message = "no worker is direct, and there is no role for one"
  }

  assert {
    condition     = alltrue([for name, environment in local.environment : length(setintersection(keys(environment), ["NOETL_ORCHESTRATOR", "NOETL_WORKER_ROLE"])) == 0])
    error_message = "no function is given an orchestrator or a role"
  }

  assert {
    condition     = alltrue([for name, row in local.functions : row.role != "worker" || !contains(keys(local.environment[name]), "NOETL_DATABASE_URL") && length(local.security_group_ids[name]) == 1])
    error_message = "a worker has neither the database's URL nor the way to it"
  }

  assert {
    condition     = alltrue([for name in ["control_plane", "reconciler"] : length(local.security_group_ids[name]) == 2])
    error_message = "control plane and reconciler reach the database"
  }

  assert {
    condition     = length(local.security_group_ids["gateway"]) == 1
    error_message = "the gateway does not reach the database"
  }
}

run "direct" {
  variables {
    orchestrator = { worker_calls = "direct", worker_gpu = "remote" }
  }

  assert {
    condition     = local.direct == ["worker_calls"] && local.environment["worker_calls"].NOETL_ORCHESTRATOR == "direct"
    error_message = "the pool of the variable is direct"
  }

  assert {
    condition     = startswith(local.environment["worker_calls"].NOETL_DATABASE_URL, "postgresql://noetl_worker@") && startswith(local.environment["control_plane"].NOETL_DATABASE_URL, "postgresql://noetl@")
    error_message = "it connects in the role of workers, and the control plane as before"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker_calls"].NOETL_SECRETS))) == toset(["database_url", "nats_url", "service_token"])
    error_message = "it reads the password of its role, and no key"
  }

  assert {
    condition     = local.functions["worker_calls"].reads.database_url == "database_role" && local.functions["control_plane"].reads.database_url == "database_url"
    error_message = "the secret of its role is not that of the control plane"
  }

  assert {
    condition     = local.environment["control_plane"].NOETL_WORKER_ROLE == "noetl_worker" && jsondecode(local.environment["control_plane"].NOETL_PROVISION)["database_role/noetl_worker"] == module.secrets.arns["database_role"]
    error_message = "the control plane creates the role and its password"
  }

  assert {
    condition     = length(local.security_group_ids["worker_calls"]) == 2
    error_message = "it has the way to the database"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker_calls"].NOETL_FUNCTION_URLS))) == toset(["shared", "data", "calls", "gpu", "reconciler"])
    error_message = "it invokes whoever waits for what it commits, and the reconciler for timers"
  }

  assert {
    condition     = toset([for name, environment in local.environment : name if contains(keys(environment), "NOETL_ORCHESTRATOR")]) == toset(["worker_calls"])
    error_message = "no other function is direct"
  }

  assert {
    condition     = alltrue([for name in ["worker", "worker_data", "worker_gpu"] : !contains(keys(local.environment[name]), "NOETL_DATABASE_URL") && length(local.security_group_ids[name]) == 1])
    error_message = "the other workers get nothing of it"
  }

  assert {
    condition     = [for name, row in local.functions : name if contains(values(row.reads), "database_role")] == ["worker_calls"]
    error_message = "nobody else reads the password"
  }

  assert {
    condition     = contains(keys(aws_secretsmanager_secret_rotation.token), "database_role") && contains(keys(aws_lambda_permission.rotation), "database_role")
    error_message = "the password rotates as service tokens do"
  }
}

run "a_stock_pool_whose_code_runs_elsewhere" {
  variables {
    pools        = { code = { kinds = ["python", "shell", "container", "agent", "mcp"] } }
    orchestrator = { worker = "direct" }
  }

  assert {
    condition     = local.direct == ["worker"] && local.environment["worker"].NOETL_ORCHESTRATOR == "direct"
    error_message = "a pool may be direct once no kind that runs users' code is left in it"
  }
}

run "through_a_proxy" {
  variables {
    orchestrator = { worker_calls = "direct" }
    database     = { proxy = true }
  }

  assert {
    condition     = toset(module.database[0].proxied_secret_arns) == toset([module.database[0].secret_arn, module.secrets.arns["database_role"]])
    error_message = "the proxy signs both roles in"
  }
}

run "by_iam_through_a_proxy" {
  variables {
    orchestrator = { worker_calls = "direct" }
    database     = { proxy = true, auth = "iam" }
  }

  assert {
    condition     = !contains(keys(jsondecode(local.environment["worker_calls"].NOETL_SECRETS)), "database_url") && local.environment["worker_calls"].NOETL_DATABASE_AUTH == "iam"
    error_message = "with authentication by IAM the function reads no password"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["worker_calls"]).Statement : statement.Resource if statement.Sid == "ConnectToDatabase"] == [["arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/noetl_worker"]]
    error_message = "it may connect in the role of workers alone"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["control_plane"]).Statement : statement.Resource if statement.Sid == "ConnectToDatabase"] == [["arn:aws:rds-db:eu-central-1:123456789012:dbuser:prx-0123456789abcdef0/noetl"]]
    error_message = "the control plane connects as before"
  }
}

run "to_an_existing_database" {
  variables {
    orchestrator = { worker_calls = "direct" }
    database     = { existing = { url = "postgres://engine@db.example.org:6432/flows?sslmode=verify-full", secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf" } }
  }

  assert {
    condition     = local.environment["worker_calls"].NOETL_DATABASE_URL == "postgresql://flows_worker@db.example.org:6432/flows?sslmode=verify-full" && local.environment["control_plane"].NOETL_WORKER_ROLE == "flows_worker"
    error_message = "the role is named after the database, since roles belong to a server"
  }
}

run "by_iam_to_an_existing_database" {
  variables {
    orchestrator = { worker_calls = "direct" }
    database = { auth = "iam", existing = {
      url                  = "postgresql://engine@db.example.org/flows"
      resource_arns        = ["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/engine"]
      worker_resource_arns = ["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/flows_worker"]
    } }
  }

  assert {
    condition     = !contains(keys(local.secrets), "database_role") && local.environment["control_plane"].NOETL_WORKER_ROLE == "flows_worker"
    error_message = "the role has no password"
  }

  assert {
    condition     = [for statement in jsondecode(output.policies["worker_calls"]).Statement : statement.Resource if statement.Sid == "ConnectToDatabase"] == [["arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/flows_worker"]]
    error_message = "it may connect in the role of workers alone"
  }
}
