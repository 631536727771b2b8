# What starts functions: queues, the clock and events.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project  = "my-project"
  package  = { directory = "./tests/package" }
  database = { existing = { url = "postgresql://noetl@db.example.org/noetl", secret_id = "database-password" } }
  nats     = { existing = { secret_id = "nats-url" } }
}

run "queue" {
  module {
    source = "../modules/gcp/queue"
  }

  variables {
    name     = "noetl-shared"
    account  = "noetl-q-shared"
    location = "europe-west3"
    function = { name = "noetl-worker", uri = "https://noetl-worker-abc123-ey.a.run.app", timeout_s = 900, max_instances = 50 }
  }

  assert {
    condition     = google_cloud_tasks_queue.this.http_target[0].http_method == "POST" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].host == "noetl-worker-abc123-ey.a.run.app" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].port == "443" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].scheme == "HTTPS"
    error_message = "the queue sends tasks to its function"
  }

  assert {
    condition     = google_cloud_tasks_queue.this.http_target[0].uri_override[0].uri_override_enforce_mode == "ALWAYS" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].path_override[0].path == "/"
    error_message = "whoever adds a task cannot choose where it goes"
  }

  assert {
    condition     = google_cloud_tasks_queue.this.http_target[0].oidc_token[0].service_account_email == google_service_account.this.email && google_cloud_tasks_queue.this.http_target[0].oidc_token[0].audience == "https://noetl-worker-abc123-ey.a.run.app"
    error_message = "it calls as its own account, with a token for this function only"
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.this.member == "serviceAccount:${google_service_account.this.email}" && google_cloud_run_v2_service_iam_member.this.name == "noetl-worker" && google_cloud_run_v2_service_iam_member.this.role == "roles/run.invoker"
    error_message = "its account may call the function"
  }

  assert {
    condition     = google_cloud_tasks_queue.this.rate_limits[0].max_concurrent_dispatches == 50 && google_cloud_tasks_queue.this.retry_config[0].max_attempts == 20
    error_message = "it sends no more tasks at once than there are instances, and does not try forever"
  }
}

run "queue_beside_stand_ins" {
  command = plan

  module {
    source = "../modules/gcp/queue"
  }

  variables {
    name     = "noetl-shared"
    account  = "noetl-q-shared"
    location = "europe-west3"
    function = { name = "noetl-worker", uri = "http://127.0.0.1:8123", timeout_s = 900 }
  }

  assert {
    condition     = google_cloud_tasks_queue.this.http_target[0].uri_override[0].host == "127.0.0.1" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].port == "8123" && google_cloud_tasks_queue.this.http_target[0].uri_override[0].scheme == "HTTP"
    error_message = "a function beside stand-ins has a port of its own"
  }
}

run "clock" {
  assert {
    condition     = keys(module.clock) == ["reconciler"] && module.clock["reconciler"].schedule == "* * * * *"
    error_message = "the reconciler is called every minute"
  }
}

run "clock_job" {
  module {
    source = "../modules/gcp/clock"
  }

  variables {
    name          = "noetl-clock"
    location      = "europe-west3"
    function      = { name = "noetl-reconciler", uri = "https://noetl-reconciler-abc123-ey.a.run.app", timeout_s = 60 }
    every_minutes = 5
  }

  assert {
    condition     = google_cloud_scheduler_job.this.schedule == "*/5 * * * *" && google_cloud_scheduler_job.this.attempt_deadline == "60s" && google_cloud_scheduler_job.this.retry_config[0].retry_count == 0
    error_message = "a call that fails is not repeated, since the next one follows"
  }

  assert {
    condition     = google_cloud_scheduler_job.this.http_target[0].uri == "https://noetl-reconciler-abc123-ey.a.run.app/" && base64decode(google_cloud_scheduler_job.this.http_target[0].body) == "{}" && google_cloud_scheduler_job.this.http_target[0].http_method == "POST"
    error_message = "it calls the function with an empty object"
  }

  assert {
    condition     = google_cloud_scheduler_job.this.http_target[0].oidc_token[0].service_account_email == google_service_account.this.email && google_cloud_scheduler_job.this.http_target[0].oidc_token[0].audience == "https://noetl-reconciler-abc123-ey.a.run.app" && google_cloud_run_v2_service_iam_member.this.member == "serviceAccount:${google_service_account.this.email}"
    error_message = "it calls as its own account, which may call the function"
  }
}

run "events" {
  variables {
    events = { publishers = ["serviceAccount:uploads@my-project.iam.gserviceaccount.com"] }
  }

  assert {
    condition     = keys(module.events) == ["reconciler"]
    error_message = "events start the reconciler"
  }

  assert {
    condition     = module.events["reconciler"].publishers == toset(["serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com", "serviceAccount:uploads@my-project.iam.gserviceaccount.com"])
    error_message = "the result bucket and those that are named may publish"
  }
}

run "what_triggers_listen_to" {
  variables {
    events = { results = false, buckets = ["orders"], subscriptions = ["projects/shop/subscriptions/orders"] }
  }

  assert {
    condition     = jsonencode(module.events["reconciler"].notifies) == jsonencode({ orders = [null] })
    error_message = "the buckets that are named notify the topic of each object"
  }

  assert {
    condition     = module.events["reconciler"].publishers == toset(["serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com"])
    error_message = "the project's storage account may publish"
  }

  assert {
    condition     = { for name, roles in output.roles : name => [for one in roles : one.resource if one.role == "roles/pubsub.subscriber"] if contains(roles[*].role, "roles/pubsub.subscriber") } == { reconciler = ["projects/shop/subscriptions/orders"] }
    error_message = "the reconciler, and no other function, pulls from the subscriptions that are named"
  }
}

run "no_events_of_results" {
  variables {
    events = { results = false }
  }

  assert {
    condition     = length(module.events["reconciler"].publishers) == 0 && length(module.events["reconciler"].notifies) == 0
    error_message = "nobody may publish unless the input says so"
  }
}

run "events_module" {
  module {
    source = "../modules/gcp/events"
  }

  variables {
    name     = "noetl-events"
    location = "europe-west3"
    function = { name = "noetl-reconciler", uri = "https://noetl-reconciler-abc123-ey.a.run.app", timeout_s = 60 }
    results  = { bucket = "noetl-results-my-project", prefix = "results/" }
  }

  assert {
    condition     = google_storage_notification.results[0].bucket == "noetl-results-my-project" && google_storage_notification.results[0].event_types == toset(["OBJECT_FINALIZE"]) && google_storage_notification.results[0].object_name_prefix == "results/" && google_storage_notification.results[0].payload_format == "JSON_API_V1"
    error_message = "each object written below the prefix is a message"
  }

  assert {
    condition     = google_pubsub_subscription.this.push_config[0].push_endpoint == "https://noetl-reconciler-abc123-ey.a.run.app/" && google_pubsub_subscription.this.push_config[0].oidc_token[0].service_account_email == google_service_account.this.email && google_pubsub_subscription.this.push_config[0].oidc_token[0].audience == "https://noetl-reconciler-abc123-ey.a.run.app"
    error_message = "each message calls the function, with a token for it"
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.this.member == "serviceAccount:${google_service_account.this.email}" && google_cloud_run_v2_service_iam_member.this.role == "roles/run.invoker"
    error_message = "the topic's account may call the function"
  }

  assert {
    condition     = google_pubsub_subscription.this.ack_deadline_seconds == 60 && google_pubsub_subscription.this.expiration_policy[0].ttl == ""
    error_message = "Pub/Sub waits for as long as the function may run, and the subscription does not expire"
  }
}
