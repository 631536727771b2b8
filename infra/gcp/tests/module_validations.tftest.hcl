# For every validation of the modules, a value that it refuses. Each run gives each variable one such value at most, so that
# no validation stands in for another; the values of the file are valid, and a module takes those that it declares.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  name          = "noetl-worker"
  account       = "noetl-worker"
  description   = "A function"
  project       = "my-project"
  location      = "europe-west3"
  reached_from  = "project"
  code          = { image = "europe-west3-docker.pkg.dev/my-project/noetl/worker:1", source = "gs://code/worker/1.tar.gz", base_image = "python313", build_account = "projects/my-project/serviceAccounts/build" }
  limits        = { memory_mb = 512, timeout_s = 60, concurrency = 1 }
  function      = { name = "noetl-worker", uri = "https://noetl-worker-abc123-ey.a.run.app", timeout_s = 60 }
  packages      = { worker = { file = "worker.tar.gz", sha256 = "00a4" } }
  every_minutes = 1
}

run "function_memory" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    name         = "noetl_worker"
    account      = "noetl-worker-of-a-pool-with-a-long-name"
    limits       = { memory_mb = 256, timeout_s = 60, concurrency = 1 }
    reached_from = "nowhere"
    access       = { results = { verb = "list", bucket = "one", prefix = "results/" } }
  }

  expect_failures = [var.name, var.account, var.limits, var.reached_from, var.access]
}

run "function_cpu" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    limits = { memory_mb = 512, timeout_s = 60, concurrency = 1, cpu = 3 }
  }

  expect_failures = [var.limits]
}

run "function_accelerator_without_cpus" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    limits = { memory_mb = 16384, timeout_s = 60, concurrency = 1, cpu = 2, accelerator = "nvidia-l4" }
  }

  expect_failures = [var.limits]
}

run "function_accelerator_of_another_kind" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    limits = { memory_mb = 16384, timeout_s = 60, concurrency = 1, cpu = 4, accelerator = "tpu-v5" }
  }

  expect_failures = [var.limits]
}

run "function_timeout" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    limits = { memory_mb = 512, timeout_s = 3601, concurrency = 1 }
    access = { reads = { nats_url = "nats-url" } }
  }

  expect_failures = [var.limits, var.access]
}

run "function_concurrency" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    limits = { memory_mb = 512, timeout_s = 60, concurrency = 0 }
  }

  expect_failures = [var.limits]
}

run "queue" {
  command = plan

  module {
    source = "../modules/gcp/queue"
  }

  variables {
    account      = "q"
    function     = { name = "noetl-worker", uri = "https://noetl-worker-abc123-ey.a.run.app", timeout_s = 3600 }
    max_attempts = 0
  }

  expect_failures = [var.account, var.function, var.max_attempts]
}

run "clock" {
  command = plan

  module {
    source = "../modules/gcp/clock"
  }

  variables {
    function      = { name = "noetl-reconciler", uri = "https://noetl-reconciler-abc123-ey.a.run.app", timeout_s = 3600 }
    every_minutes = 7
  }

  expect_failures = [var.function, var.every_minutes]
}

run "events" {
  command = plan

  module {
    source = "../modules/gcp/events"
  }

  variables {
    function = { name = "noetl-reconciler", uri = "https://noetl-reconciler-abc123-ey.a.run.app", timeout_s = 900 }
  }

  expect_failures = [var.function]
}

run "bucket" {
  command = plan

  module {
    source = "../modules/gcp/bucket"
  }

  variables {
    name   = "NoETL"
    expiry = { days = 0 }
  }

  expect_failures = [var.name, var.expiry]
}

run "build" {
  command = plan

  module {
    source = "../modules/gcp/images"
  }

  variables {
    base_image = "nodejs22"
  }

  expect_failures = [var.base_image]
}

run "secrets" {
  command = plan

  module {
    source = "../modules/gcp/secrets"
  }

  variables {
    secrets = { "service_token/worker" = "noetl/service_token/worker" }
  }

  expect_failures = [var.secrets]
}
