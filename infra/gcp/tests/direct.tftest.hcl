# Workers with the orchestrator in their own process: what they get, and that no other does.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
  pools    = { calls = { kinds = ["http", "postgres"] }, gpu = { kinds = ["python"] } }
}

run "remote_by_default" {
  assert {
    condition     = length(local.direct) == 0 && !contains(local.secrets, "database_role")
    error_message = "no worker is direct, and there is no role for one"
  }

  assert {
    condition     = alltrue([for environment in local.environment : length(setintersection(keys(environment), ["NOETL_ORCHESTRATOR", "NOETL_WORKER_ROLE"])) == 0])
    error_message = "no function is given an orchestrator or a role"
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
    condition     = local.environment["worker_calls"].NOETL_DATABASE_URL == "postgresql://noetl_worker@db.example.org/noetl" && local.environment["control_plane"].NOETL_DATABASE_URL == "postgresql://noetl@db.example.org/noetl"
    error_message = "it connects in the role of workers, and the control plane as before"
  }

  assert {
    condition     = jsondecode(local.environment["worker_calls"].NOETL_SECRETS).database_url == "projects/my-project/secrets/noetl-database-role"
    error_message = "it reads the password of its role"
  }

  assert {
    condition     = local.environment["migration"].NOETL_WORKER_ROLE == "noetl_worker" && jsondecode(local.environment["migration"].NOETL_PROVISION)["database_role/noetl_worker"] == "projects/my-project/secrets/noetl-database-role"
    error_message = "the migration creates the role and its password"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker_calls"].NOETL_FUNCTION_URLS))) == toset(["shared", "data", "calls", "gpu", "reconciler"]) && contains(keys(module.queue["data"].invokers), "worker_calls")
    error_message = "it invokes whoever waits for what it commits, and the reconciler for timers"
  }

  assert {
    condition     = toset([for name, roles in output.roles : name if contains(roles[*].resource, "projects/my-project/secrets/noetl-database-role")]) == toset(["worker_calls", "migration"])
    error_message = "nobody else reads the password"
  }
}
