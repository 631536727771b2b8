# What the table says of a function, and how the inputs change it.

variables {
  file = "../../../functions/functions.yaml"
  host = "aws"
  name = "noetl"
}

run "rows" {
  command = plan

  assert {
    condition     = output.functions["worker_data"].full_name == "noetl-worker-data" && output.functions["worker_data"].like == "worker_data"
    error_message = "a function's full name is the deployment's and its own, with hyphens"
  }

  assert {
    condition     = output.queues == { shared = "worker", data = "worker_data", reconciler = "reconciler" }
    error_message = "a function that others invoke has a queue, named after its pool"
  }

  assert {
    condition     = { for name, row in output.functions : name => row.every_s if row.every_s != null } == { reconciler = 1 }
    error_message = "the reconciler has a schedule"
  }

  assert {
    condition     = [for name, row in output.functions : name if row.public] == ["gateway"]
    error_message = "only the gateway is reached from the internet"
  }
}

run "access" {
  command = plan

  assert {
    condition     = { for name, row in output.functions : name => row.results } == { gateway = null, control_plane = "write", reconciler = "sweep", worker = "write", worker_data = "write" }
    error_message = "each role has its own access to results"
  }

  assert {
    condition     = toset([for name, row in output.functions : name if row.calls]) == toset(["gateway", "worker", "worker_data"])
    error_message = "gateway and workers call the control plane"
  }

  assert {
    condition     = toset(output.functions["control_plane"].invokes) == toset(["data", "reconciler", "shared"]) && output.functions["worker"].invokes == ["shared"] && output.functions["gateway"].invokes == []
    error_message = "whoever commits invokes everybody, a worker its own pool, the gateway nobody"
  }

  assert {
    condition     = output.functions["worker"].reads == tomap({ nats_url = "nats_url", service_token = "service_token/worker" })
    error_message = "a worker reads the token of its role and how to reach NATS"
  }

  assert {
    condition     = output.functions["worker"].environment == { NOETL_HOST = "aws", NOETL_FUNCTION = "worker", NOETL_LOG_LEVEL = "INFO", NOETL_POOL = "shared", NOETL_POOLS = "{\"archive\":\"data\",\"duckdb\":\"data\"}", NOETL_SCRATCH = "/tmp" }
    error_message = "the environment has what is the same in every cloud"
  }
}

run "inputs" {
  command = plan

  variables {
    functions    = { worker = { memory_mb = 4096, settings = { lease = "60", pools = "{}" } } }
    pools        = { calls = { like = "worker_data", kinds = ["http"], memory_mb = 1024, timeout_s = 100, max_instances = 3, labels = { use = "calls" }, max_in_flight = 64 } }
    orchestrator = { worker_calls = "direct" }
    settings     = { session_ttl = 60, log_level = "DEBUG", result_auto = "kv,postgres" }
    secrets      = { nats = ["nats_password", "nats_ca"] }
  }

  assert {
    condition     = output.functions["worker"].memory_mb == 4096 && output.functions["worker"].timeout_s == 900
    error_message = "an override changes only the limits that it names"
  }

  assert {
    condition     = output.functions["worker"].environment.NOETL_LEASE == "60" && output.functions["worker"].environment.NOETL_POOLS == "{}" && !contains(keys(output.functions["worker_data"].environment), "NOETL_LEASE")
    error_message = "a setting of a function takes the place of the usual one, for this function only"
  }

  assert {
    condition     = alltrue([for name in ["control_plane", "reconciler", "worker", "worker_calls"] : output.functions[name].environment.NOETL_RESULT_AUTO == "kv,postgres"]) && !contains(keys(output.functions["gateway"].environment), "NOETL_RESULT_AUTO")
    error_message = "who reads or writes results is told where they go"
  }

  assert {
    condition     = output.functions["worker_calls"].timeout_s == 100 && output.functions["worker_calls"].queue == "calls" && output.functions["worker_calls"].like == "worker_data" && output.packages == toset(["gateway", "control_plane", "reconciler", "worker", "worker_data"])
    error_message = "a pool is a function with limits and a queue of its own, and another's package"
  }

  assert {
    condition     = jsondecode(output.functions["worker_data"].environment.NOETL_POOLS).http == "calls"
    error_message = "commands of the kinds of a pool go to that pool"
  }

  assert {
    condition     = output.functions["worker_calls"].environment.NOETL_MAX_IN_FLIGHT == "64" && output.functions["worker_calls"].environment.NOETL_LABELS == "{\"use\":\"calls\"}" && !contains(keys(output.functions["worker"].environment), "NOETL_MAX_IN_FLIGHT")
    error_message = "a pool has labels, and a number of commands at once"
  }

  assert {
    condition     = [for pool, traits in jsondecode(output.functions["control_plane"].environment.NOETL_WORKER_POOLS) : "${pool}: ${join(",", traits.extras)} ${traits.direct} ${join(",", values(traits.labels))}"] == ["calls: tools true calls", "data: tools false ", "shared:  false "]
    error_message = "the control plane is told which pools there are, and what their workers have"
  }

  assert {
    condition     = output.direct == ["worker_calls"] && output.functions["worker_calls"].environment.NOETL_ORCHESTRATOR == "direct" && output.functions["worker_calls"].reads.database_url == "database_role"
    error_message = "a direct worker reads the password of a database role of its own"
  }

  assert {
    condition     = toset(output.functions["worker_calls"].invokes) == toset(["calls", "data", "reconciler", "shared"])
    error_message = "a direct worker invokes whoever waits for what it commits"
  }

  assert {
    condition     = toset(keys(output.functions["gateway"].reads)) == toset(["nats_password", "nats_ca", "service_token"]) && output.functions["gateway"].environment.NOETL_SESSION_TTL == "60" && output.functions["gateway"].environment.NOETL_LOG_LEVEL == "DEBUG"
    error_message = "the inputs say how NATS is reached, and the settings of the engine"
  }
}

run "without_a_password" {
  command = plan

  variables {
    secrets = { database = false }
  }

  assert {
    condition     = !contains(keys(output.functions["control_plane"].reads), "database_url")
    error_message = "where the database takes no password, none is read"
  }
}

run "emulated" {
  command = plan

  variables {
    emulated = true
    settings = { oidc_issuer = "http://id.example.org/", oidc_audience = "noetl" }
  }

  assert {
    condition     = output.functions["gateway"].environment.NOETL_OIDC_ISSUER == "http://id.example.org/"
    error_message = "on an emulator the identity provider may be without TLS"
  }
}

run "existing_database" {
  command = plan

  variables {
    database_url = "postgres://engine@db.example.org:6432/flows?sslmode=verify-full"
  }

  assert {
    condition     = output.worker == { role = "flows_worker", url = "postgresql://flows_worker@db.example.org:6432/flows?sslmode=verify-full" }
    error_message = "the role of direct workers is named after the database, since roles belong to a server"
  }
}
