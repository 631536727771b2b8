# What each function may do, who may call it, and that nobody may do more.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
}

run "roles" {
  assert {
    condition = toset([for one in output.roles["gateway"] : "${one.role} ${one.resource}"]) == toset([
      "roles/run.invoker noetl-control-plane",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/nats-url",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-service-token-gateway",
    ])
    error_message = "the gateway calls the control plane, and reaches neither queues nor results nor the database's password"
  }

  assert {
    condition = toset([for one in output.roles["control_plane"] : "${one.role} ${one.resource}" if !startswith(one.role, "roles/cloudtasks.")]) == toset([
      "roles/iam.serviceAccountTokenCreator ${module.control_plane.account}",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/database-password",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/nats-url",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-encryption-keys",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-service-token-control-plane",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-token-key",
      "roles/storage.objectUser noetl-results-my-project",
    ])
    error_message = "the control plane reads the keys, and writes none; it writes what users put, and as itself it signs URLs of results"
  }

  assert {
    condition = toset([for one in output.roles["worker"] : "${one.role} ${one.resource}" if !startswith(one.role, "roles/cloudtasks.")]) == toset([
      "roles/run.invoker noetl-control-plane",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/nats-url",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-service-token-worker",
      "roles/storage.objectUser noetl-results-my-project",
    ])
    error_message = "a worker calls the control plane and writes results; it reads no key and no password"
  }

  assert {
    condition = toset([for one in output.roles["reconciler"] : "${one.role} ${one.resource}" if !startswith(one.role, "roles/cloudtasks.")]) == toset([
      "roles/secretmanager.secretAccessor projects/my-project/secrets/database-password",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/nats-url",
      "roles/secretmanager.secretAccessor projects/my-project/secrets/noetl-service-token-reconciler",
      "roles/storage.objectUser noetl-results-my-project",
    ])
    error_message = "the reconciler deletes results, and calls nobody"
  }

  assert {
    condition     = toset([for one in output.roles["migration"] : one.resource if one.role == "roles/secretmanager.secretVersionAdder"]) == toset(values(module.secrets.ids))
    error_message = "the migration fills the deployment's secrets, and no others"
  }

  assert {
    condition     = toset([for one in output.roles["migration"] : one.resource if one.role == "roles/secretmanager.secretAccessor"]) == setunion(values(module.secrets.ids), ["projects/my-project/secrets/database-password"])
    error_message = "the migration reads the secrets that it fills, and the database's password"
  }

  assert {
    condition     = [for name, roles in output.roles : name if contains(roles[*].role, "roles/secretmanager.secretVersionAdder")] == ["migration"]
    error_message = "nobody else writes secrets"
  }
}

run "invokers" {
  assert {
    condition     = toset(keys(module.queue["shared"].invokers)) == toset(["control_plane", "reconciler", "worker"]) && toset(keys(module.queue["data"].invokers)) == toset(["control_plane", "reconciler", "worker_data"]) && toset(keys(module.queue["reconciler"].invokers)) == toset(["control_plane", "reconciler"])
    error_message = "whoever commits invokes everybody, and a worker its own pool"
  }

  assert {
    condition     = module.queue["shared"].invokers["worker"] == module.function["worker"].member
    error_message = "it is the function's own account that may add tasks"
  }
}

run "callers" {
  variables {
    operators = ["user:ann@example.org"]
  }

  assert {
    condition     = module.api["gateway"].callers == { everybody = "allUsers" }
    error_message = "everybody reaches the gateway"
  }

  assert {
    condition     = toset(keys(module.api)) == toset(["gateway", "control_plane", "migration"])
    error_message = "workers and the reconciler are called by their queues, the clock and the topic only"
  }

  assert {
    condition = module.api["control_plane"].callers == {
      gateway     = module.function["gateway"].member
      operator    = "serviceAccount:${google_service_account.operator.email}"
      worker      = module.function["worker"].member
      worker_data = module.function["worker_data"].member
    }
    error_message = "gateway, workers and operators call the control plane"
  }

  assert {
    condition     = module.api["migration"].callers == { operator = "serviceAccount:${google_service_account.operator.email}" }
    error_message = "only operators start the migration"
  }

  assert {
    condition     = { for member, one in google_service_account_iam_member.operator : member => one.role } == { "user:ann@example.org" = "roles/iam.serviceAccountTokenCreator" }
    error_message = "the persons that are named get the operator's tokens"
  }
}

run "nobody_operates" {
  assert {
    condition     = length(google_service_account_iam_member.operator) == 0
    error_message = "without names nobody gets the operator's tokens"
  }
}

run "results" {
  module {
    source = "../modules/gcp/function"
  }

  variables {
    name         = "noetl-reconciler"
    account      = "noetl-reconciler"
    description  = "A reconciler"
    location     = "europe-west3"
    reached_from = "project"
    code         = { image = "europe-west3-docker.pkg.dev/my-project/noetl/reconciler:00a3", source = "gs://code/reconciler/00a3.tar.gz", base_image = "python313", build_account = "projects/my-project/serviceAccounts/build" }
    limits       = { memory_mb = 512, timeout_s = 60, concurrency = 1 }
    access       = { results = { verb = "sweep", bucket = "theirs", prefix = "results/" } }
  }

  assert {
    condition     = google_storage_bucket_iam_member.results["sweep"].condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/theirs/objects/results/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"results/\")"
    error_message = "a function reaches and lists only what is below the prefix of the results"
  }
}
