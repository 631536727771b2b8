# For every validation, a value that it refuses. Each run gives each variable one such value at most, so that no validation
# stands in for another. A validation that reads another variable (functions, orchestrator: pools; settings: emulated) is
# evaluated only if that one is valid, so the two are never invalid in the same run.

variables {
  file = "../../../functions/functions.yaml"
  host = "aws"
  name = "noetl"
}

run "first" {
  command = plan

  variables {
    functions    = { wroker = { memory_mb = 512 } }
    orchestrator = { gateway = "direct" }
    settings     = { oidc_issuer = "https://id.example.org/" }
  }

  expect_failures = [var.functions, var.orchestrator, var.settings]
}

run "second" {
  command = plan

  variables {
    functions    = { worker = { max_instances = 0 } }
    orchestrator = { worker = "straight" }
    settings     = { oidc_issuer = "http://id.example.org/", oidc_audience = "noetl" }
  }

  expect_failures = [var.functions, var.orchestrator, var.settings]
}

run "third" {
  command = plan

  variables {
    functions    = { gateway = { settings = { service_token = "abc" } } }
    pools        = { calls = { like = "worker", kinds = ["http", "python"], memory_mb = 2048, timeout_s = 900, max_instances = 10 } }
    orchestrator = { worker_calls = "direct" }
    settings     = { log_level = "TRACE" }
  }

  expect_failures = [var.functions, var.orchestrator, var.settings]
}

run "fourth" {
  command = plan

  variables {
    pools = { data = { like = "worker", kinds = [], memory_mb = 2048, timeout_s = 900, max_instances = 10 } }
  }

  expect_failures = [var.pools]
}

run "fifth" {
  command = plan

  variables {
    pools = { gpu = { like = "gateway", kinds = [], memory_mb = 2048, timeout_s = 900, max_instances = 10 } }
  }

  expect_failures = [var.pools]
}

run "sixth" {
  command = plan

  variables {
    pools = {
      one = { like = "worker", kinds = ["python"], memory_mb = 2048, timeout_s = 900, max_instances = 10 }
      two = { like = "worker", kinds = ["python"], memory_mb = 2048, timeout_s = 900, max_instances = 10 }
    }
  }

  expect_failures = [var.pools]
}

run "a_gpu_on_lambda" {
  command = plan

  variables {
    pools = { gpu = { like = "worker", kinds = [], memory_mb = 16384, timeout_s = 900, max_instances = 2, cpu = 4, accelerator = "nvidia-l4" } }
  }

  expect_failures = [var.pools]
}

run "more_cpus_than_lambda_gives" {
  command = plan

  variables {
    pools = { cpu = { like = "worker", kinds = [], memory_mb = 1769, timeout_s = 900, max_instances = 2, cpu = 2 } }
  }

  expect_failures = [var.pools]
}

run "a_pool_that_runs_nothing" {
  command = plan

  variables {
    pools = { none = { like = "worker", kinds = [], memory_mb = 1769, timeout_s = 900, max_instances = 2, max_in_flight = 0 } }
  }

  expect_failures = [var.pools]
}

run "a_public_url_without_tls" {
  command = plan

  variables {
    settings = { public_url = "http://noetl.example.org" }
  }

  expect_failures = [var.settings]
}

run "a_store_that_there_is_not" {
  command = plan

  variables {
    settings = { result_auto = "kv,disk" }
  }

  expect_failures = [var.settings]
}
