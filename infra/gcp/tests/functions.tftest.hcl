# How the functions of functions/functions.yaml are wired.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
}

run "default" {
  assert {
    condition     = toset(keys(output.functions)) == toset(["gateway", "control_plane", "reconciler", "worker", "worker_data", "migration"])
    error_message = "one function for each row of functions.yaml that is for Google Cloud"
  }

  assert {
    condition     = output.functions["worker_data"].name == "noetl-worker-data" && output.functions["control_plane"].name == "noetl-control-plane"
    error_message = "a function's name is the deployment's and its own, with hyphens"
  }

  assert {
    condition     = toset(keys(output.queues)) == toset(["shared", "data", "reconciler"])
    error_message = "a queue for each function that is invoked, named after its pool"
  }

  assert {
    condition     = length(distinct([for function in output.functions : function.account])) == 6
    error_message = "each function has an account of its own"
  }
}

run "environment" {
  assert {
    condition     = alltrue([for name, environment in local.environment : environment.NOETL_HOST == "gcp" && environment.NOETL_FUNCTION == name])
    error_message = "each function gets its host and its name"
  }

  assert {
    condition     = toset([for name, environment in local.environment : name if contains(keys(environment), "NOETL_CONTROL_PLANE_URL")]) == toset(["gateway", "worker", "worker_data"]) && local.environment["worker"].NOETL_CONTROL_PLANE_URL == module.control_plane.uri
    error_message = "gateway and workers get the URL of the control plane"
  }

  assert {
    condition     = alltrue([for environment in values(local.environment) : !contains(keys(environment), "NOETL_PUBLIC_URL")])
    error_message = "without public_url there is none"
  }

  assert {
    condition     = local.environment["worker_data"].NOETL_POOL == "data" && !contains(keys(local.environment["gateway"]), "NOETL_POOL")
    error_message = "only workers get a pool"
  }

  assert {
    condition     = jsondecode(local.environment["worker"].NOETL_FUNCTION_URLS) == { shared = "projects/my-project/locations/europe-west3/queues/noetl-shared" }
    error_message = "a worker gets the queue of its own pool"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["control_plane"].NOETL_FUNCTION_URLS))) == toset(["shared", "data", "reconciler"])
    error_message = "the control plane may invoke every function"
  }

  assert {
    condition     = local.environment["worker"].NOETL_TIME_BUDGET == "890" && !contains(keys(local.environment["control_plane"]), "NOETL_TIME_BUDGET")
    error_message = "a worker ends before its request does"
  }

  assert {
    condition     = local.environment["worker"].NOETL_RESULT_URL == "gs://noetl-results-my-project/results"
    error_message = "results are below a prefix of the bucket"
  }

  assert {
    condition     = toset([for name, environment in local.environment : name if contains(keys(environment), "NOETL_DATABASE_URL")]) == toset(["control_plane", "reconciler", "migration"])
    error_message = "neither gateway nor workers get the database's URL"
  }

  assert {
    condition     = alltrue([for environment in local.environment : !contains(keys(environment), "GOOGLE_ENDPOINT_URL")])
    error_message = "on Google Cloud itself nothing overrides the endpoints"
  }
}

run "secrets" {
  assert {
    condition = jsondecode(local.environment["control_plane"].NOETL_SECRETS) == {
      database_url    = "projects/my-project/secrets/database-password"
      encryption_keys = "projects/my-project/secrets/noetl-encryption-keys"
      nats_url        = "projects/my-project/secrets/nats-url"
      service_token   = "projects/my-project/secrets/noetl-service-token-control-plane"
      token_key       = "projects/my-project/secrets/noetl-token-key"
    }
    error_message = "the control plane reads the secrets that its row names"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["worker"].NOETL_SECRETS))) == toset(["nats_url", "service_token"])
    error_message = "a worker reads its token and the URL of NATS, and no key"
  }

  assert {
    condition     = toset(keys(jsondecode(local.environment["migration"].NOETL_PROVISION))) == toset(["token_key", "encryption_keys", "service_token/gateway", "service_token/control_plane", "service_token/reconciler", "service_token/worker", "service_token/operator"])
    error_message = "the migration creates the missing secrets"
  }

  assert {
    condition     = alltrue([for name, environment in local.environment : name == "migration" || !contains(keys(environment), "NOETL_PROVISION")])
    error_message = "only the migration creates secrets"
  }

  assert {
    condition     = output.operator_token_secret_id == "projects/my-project/secrets/noetl-service-token-operator" && google_secret_manager_secret_iam_member.operator.member == "serviceAccount:${google_service_account.operator.email}"
    error_message = "operators read their own token"
  }
}

run "packages" {
  assert {
    condition     = module.images.sources["gateway"] == "gs://noetl-code-my-project/gateway/00a1.tar.gz"
    error_message = "the name of a package contains its hash"
  }

  assert {
    condition     = local.code["control_plane"].image == "europe-west3-docker.pkg.dev/my-project/noetl/control-plane:00a2-python313"
    error_message = "an image is named after the package that it is built from"
  }

  assert {
    condition = output.builds.requests["europe-west3-docker.pkg.dev/my-project/noetl/worker:00a4-python313"] == {
      storageSource  = { bucket = "noetl-code-my-project", object = "worker/00a4.tar.gz" }
      imageUri       = "europe-west3-docker.pkg.dev/my-project/noetl/worker:00a4-python313"
      serviceAccount = module.images.account
      buildpackBuild = { functionTarget = "function", baseImage = "python313" }
    }
    error_message = "the deployment says how each image is built"
  }
}

run "overrides" {
  variables {
    functions = {
      worker        = { memory_mb = 4096, max_instances = 200, settings = { lease = "60" } }
      control_plane = { settings = { database_connections = "8" } }
      gateway       = { settings = { control_plane_url = "https://elsewhere.example.org" } }
    }
    settings = { public_url = "https://noetl.example.org" }
  }

  assert {
    condition     = [for name, environment in local.environment : name if contains(keys(environment), "NOETL_PUBLIC_URL")] == ["control_plane"] && local.environment["control_plane"].NOETL_PUBLIC_URL == "https://noetl.example.org"
    error_message = "the control plane alone gets the URL of the gateway, with which it makes callback URLs"
  }

  assert {
    condition     = local.functions["worker"].memory_mb == 4096 && local.targets["worker"].max_instances == 200 && local.functions["worker"].timeout_s == 900
    error_message = "an override changes only the fields that it names"
  }

  assert {
    condition     = local.environment["worker"].NOETL_LEASE == "60" && local.environment["control_plane"].NOETL_DATABASE_CONNECTIONS == "8" && local.environment["gateway"].NOETL_CONTROL_PLANE_URL == "https://elsewhere.example.org"
    error_message = "settings become environment variables"
  }
}

run "additional_pools" {
  variables {
    pools = { gpu_with_a_long_name = { like = "worker_data", kinds = ["python"], max_instances = 3 } }
  }

  assert {
    condition     = output.functions["worker_gpu_with_a_long_name"].name == "noetl-worker-gpu-with-a-long-name" && contains(keys(output.queues), "gpu_with_a_long_name")
    error_message = "a pool is a function and a queue"
  }

  assert {
    condition     = alltrue([for account in values(local.accounts) : length(account) <= 30]) && length(distinct(values(local.accounts))) == length(local.accounts)
    error_message = "the IDs of service accounts are no longer than Google allows, and each has its own"
  }

  assert {
    condition     = jsondecode(local.environment["control_plane"].NOETL_POOLS).python == "gpu_with_a_long_name" && local.code["worker_gpu_with_a_long_name"].image == local.code["worker_data"].image
    error_message = "a pool runs the package of the function that `like` names, and the commands of its kinds"
  }
}

run "a_pool_with_gpus" {
  variables {
    pools = { gpu = { cpu = 4, memory_mb = 16384, accelerator = "nvidia-l4", max_in_flight = 1, max_instances = 2 } }
  }

  assert {
    condition     = local.environment["worker_gpu"].NOETL_MAX_IN_FLIGHT == "1" && jsondecode(local.environment["control_plane"].NOETL_WORKER_POOLS).gpu.accelerator == "nvidia-l4"
    error_message = "a step may name the pool"
  }

  assert {
    condition     = local.functions["worker_gpu"].accelerator == "nvidia-l4" && alltrue([for name, row in local.functions : row.accelerator == null if name != "worker_gpu"])
    error_message = "the GPU is that of the pool, and no other function has one"
  }
}

run "stand_ins" {
  variables {
    endpoint_url = "http://127.0.0.1:8080"
  }

  assert {
    condition     = alltrue([for environment in local.environment : environment.GOOGLE_ENDPOINT_URL == "http://127.0.0.1:8080"])
    error_message = "functions beside stand-ins call the stand-ins"
  }
}

run "service_with_a_gpu" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    name         = "noetl-worker-gpu"
    account      = "noetl-worker-gpu"
    description  = "A worker"
    location     = "europe-west4"
    reached_from = "project"
    code         = { image = "europe-west4-docker.pkg.dev/my-project/noetl/worker:00a4", source = "gs://code/worker/00a4.tar.gz", base_image = "python313", build_account = "projects/my-project/serviceAccounts/build" }
    limits       = { memory_mb = 16384, timeout_s = 900, concurrency = 1, max_instances = 2, cpu = 8, accelerator = "nvidia-l4" }
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].resources[0].limits == tomap({ cpu = "8", memory = "16384Mi", "nvidia.com/gpu" = "1" })
    error_message = "an instance has one GPU, and the CPUs that the pool has"
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_service.this.template[0].gpu_zonal_redundancy_disabled && !google_cloud_run_v2_service.this.template[0].containers[0].resources[0].cpu_idle
    error_message = "it is of the type that the pool names, in one zone, and its CPUs are always its own"
  }
}

run "service" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    name         = "noetl-worker"
    account      = "noetl-worker"
    description  = "A worker"
    location     = "europe-west3"
    reached_from = "project"
    code         = { image = "europe-west3-docker.pkg.dev/my-project/noetl/worker:00a4", source = "gs://code/worker/00a4.tar.gz", base_image = "python313", build_account = "projects/my-project/serviceAccounts/build" }
    limits       = { memory_mb = 6000, timeout_s = 900, concurrency = 1, max_instances = 50 }
    environment  = { NOETL_POOL = "shared" }
    network      = { network = "ours", subnetwork = "functions", egress = "all" }
  }

  assert {
    condition     = google_cloud_run_v2_service.this.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && !google_cloud_run_v2_service.this.deletion_protection
    error_message = "a function that only the project reaches is not reached from the internet"
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].max_instance_request_concurrency == 1 && google_cloud_run_v2_service.this.template[0].scaling[0].max_instance_count == 50 && google_cloud_run_v2_service.this.template[0].timeout == "900s"
    error_message = "an instance takes as many requests at once as the table says, and there are no more instances than it says"
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "6000Mi" })
    error_message = "an instance has the CPUs that its memory requires"
  }

  assert {
    condition     = length(google_cloud_run_v2_service.this.template[0].node_selector) == 0 && google_cloud_run_v2_service.this.template[0].containers[0].resources[0].cpu_idle
    error_message = "without an accelerator it has no GPU, and its CPUs rest between requests"
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.this.template[0].containers[0].env : one.name => one.value } == { FUNCTION_USE_ASGI = "true", NOETL_POOL = "shared" }
    error_message = "the Functions Framework is told that the function is an ASGI application"
  }

  assert {
    condition     = google_cloud_run_v2_service.this.build_config[0].function_target == "function" && google_cloud_run_v2_service.this.build_config[0].source_location == "gs://code/worker/00a4.tar.gz" && google_cloud_run_v2_service.this.build_config[0].image_uri == google_cloud_run_v2_service.this.template[0].containers[0].image
    error_message = "the service says what its image was built from"
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].vpc_access[0].egress == "ALL_TRAFFIC" && google_cloud_run_v2_service.this.template[0].vpc_access[0].network_interfaces[0].subnetwork == "functions"
    error_message = "the function connects through the network that it is given"
  }
}

run "service_from_the_internet" {
  command = plan

  module {
    source = "../modules/gcp/function"
  }

  variables {
    name         = "noetl-gateway"
    account      = "noetl-gateway"
    description  = "A gateway"
    location     = "europe-west3"
    reached_from = "internet"
    code         = { image = "europe-west3-docker.pkg.dev/my-project/noetl/gateway:00a1", source = "gs://code/gateway/00a1.tar.gz", base_image = "python313", build_account = "projects/my-project/serviceAccounts/build" }
    limits       = { memory_mb = 512, timeout_s = 60, concurrency = 80 }
  }

  assert {
    condition     = google_cloud_run_v2_service.this.ingress == "INGRESS_TRAFFIC_ALL" && length(google_cloud_run_v2_service.this.template[0].vpc_access) == 0
    error_message = "a function that others reach is reached from the internet, and connects without a network"
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
