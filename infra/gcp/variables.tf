variable "name" {
  description = "Name of the deployment, and prefix of the names of all its resources."
  type        = string
  default     = "noetl"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 lowercase letters, digits and hyphens; it must start with a letter and not end with a hyphen."
  }
}

variable "project" {
  description = "ID of the project, in which the APIs are enabled that the README names."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: the ID of a project (6 to 30 lowercase letters, digits and hyphens), not its number or title."
  }
}

variable "region" {
  description = "Region of the deployment."
  type        = string
  default     = "europe-west3"

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+[0-9]+$", var.region))
    error_message = "region: a region of Google Cloud, such as europe-west3."
  }
}

variable "labels" {
  description = "Labels for all resources that have them, in addition to `deployment` and `application`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels: at most 63 lowercase letters, digits, hyphens and underscores; a name starts with a letter."
  }
}

variable "endpoint_url" {
  description = "URL of stand-ins for all of Google's APIs, for Terraform and for the functions; null on Google Cloud itself."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint_url == null || can(regex("^https?://[^/]+$", var.endpoint_url))
    error_message = "endpoint_url: scheme, host and port without a path, such as http://127.0.0.1:8080."
  }
}

variable "package" {
  description = "Folder that `python -m noetl_serverless.packaging gcp` wrote: manifest.json and a .tar.gz for each function."
  type = object({
    directory = optional(string, "../../dist/gcp/python3.12-x86_64")
  })
  default = {}

  validation {
    condition     = fileexists("${var.package.directory}/manifest.json")
    error_message = "package.directory: it contains no manifest.json. Make the packages first, or name the folder that they are in."
  }
}

variable "operators" {
  description = "Who may call the control plane and the migration, as members of IAM (user:ann@example.org): they get the tokens of the service account `<name>-operator`."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(user|group|serviceAccount):[^@]+@[^@]+$", member))])
    error_message = "operators: user:, group: or serviceAccount: with an address, such as user:ann@example.org."
  }
}

variable "functions" {
  description = "Overrides of functions/functions.yaml, by function. settings become NOETL_<NAME>."
  type = map(object({
    memory_mb     = optional(number)
    timeout_s     = optional(number)
    max_instances = optional(number)
    settings      = optional(map(string), {})
  }))
  default = {}
}

variable "pools" {
  description = "Additional worker pools. like: the function whose package they run (worker: light tools; worker_data: with pyarrow and duckdb); kinds: the tool kinds that run in this pool instead of the one that functions.yaml names; a step may also name the pool. max_in_flight: commands that an instance runs at once. labels: what the list of pools says of it. cpu: CPUs of an instance, by default as many as its memory needs. accelerator: its GPU, such as nvidia-l4, which needs 4 CPUs and 16384 MB."
  type = map(object({
    like          = optional(string, "worker")
    kinds         = optional(set(string), [])
    memory_mb     = optional(number, 2048)
    timeout_s     = optional(number, 900)
    max_instances = optional(number, 10)
    labels        = optional(map(string), {})
    max_in_flight = optional(number)
    cpu           = optional(number)
    accelerator   = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.max_instances >= 1])
    error_message = "pools.max_instances: at least 1."
  }
}

variable "orchestrator" {
  description = <<-EOT
    How the workers of a pool reach the orchestrator, by function (worker_<pool>): "remote" (the default), or "direct": in
    their own process, which saves a call of the control plane for each step. What direct costs is privilege: the function gets
    a database role of its own, with which whoever takes over the function can read the log and the inputs of every execution
    and append to any of them; the role reads no credentials, and the function gets no keys. It is refused for a pool that runs
    users' code.
  EOT
  type        = map(string)
  default     = {}
}

variable "settings" {
  description = "Settings of the engine beyond its infrastructure: the OpenID Connect provider that authenticates users, the lifetime of a session in seconds, and the log level. result_auto: kv and postgres, with a comma between, are tried in this order before the bucket for results whose playbook names no store. public_url: where everybody reaches the gateway, with which callback URLs begin; without it, no callback URLs are made."
  type = object({
    oidc_issuer   = optional(string)
    oidc_audience = optional(string)
    session_ttl   = optional(number)
    public_url    = optional(string)
    log_level     = optional(string, "INFO")
    result_auto   = optional(string)
  })
  default = {}
}

variable "network" {
  description = "With `existing`, the VPC network and subnetwork through which functions connect: to private addresses only, or with egress = \"all\" to all. Without it they connect to the internet directly."
  type = object({
    existing = optional(object({
      network    = string
      subnetwork = string
      egress     = optional(string, "private")
    }))
    cidr = optional(string)
    nat  = optional(string, "none")
  })
  default = {}

  validation {
    condition     = contains(["private", "all"], try(var.network.existing.egress, "private"))
    error_message = "network.existing.egress: private or all."
  }

  validation {
    condition     = var.network.cidr == null && var.network.nat == "none"
    error_message = "network: this deployment cannot create a VPC network or a NAT gateway yet. Name yours in network.existing, or leave `network` out: without one, functions reach the internet, and whatever can be reached over it."
  }
}

variable "database" {
  description = "PostgreSQL: with `existing` a database of yours, by its URL without a password and the ID of the secret with the password (or with a whole URL). Direct workers get the role <database>_worker in it."
  type = object({
    existing = optional(object({
      url       = string
      secret_id = string
    }))
    auth = optional(string, "secret")
  })

  validation {
    condition     = var.database.existing != null
    error_message = "database: this deployment cannot create a database yet. Name one in database.existing, by its URL and the secret with its password; Cloud SQL is reached at its private address through network.existing."
  }

  validation {
    condition     = var.database.auth == "secret"
    error_message = "database.auth: this deployment cannot sign in to a database with IAM yet. Leave it at \"secret\", and keep the password in the secret."
  }

  validation {
    condition     = var.database.existing == null || can(regex("^postgres(ql)?://([^:@/]+@)?[^@/]+/[^/?]+", var.database.existing.url))
    error_message = "database.existing.url: postgresql://[user@]host[:port]/database[?sslmode=...], without a password, which belongs in the secret."
  }

  validation {
    condition     = var.database.existing == null || can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]+$", var.database.existing.secret_id))
    error_message = "database.existing.secret_id: the ID of a secret, alone or as projects/<project>/secrets/<ID>, and without a version."
  }
}

variable "nats" {
  description = "NATS with JetStream: with `existing` a NATS of yours, by the ID of the secret that holds its URL (tls://user:password@host:4222, or several, comma separated), and in ca_secret_id its own certificate authority as PEM, if it has one. replicas: the number of its nodes that hold each stream."
  type = object({
    existing = optional(object({
      secret_id    = string
      ca_secret_id = optional(string)
      replicas     = optional(number, 1)
    }))
    cluster = optional(object({
      image = string
    }))
  })

  validation {
    condition     = var.nats.cluster == null && var.nats.existing != null
    error_message = "nats: this deployment cannot create a cluster yet. Name a NATS of yours in nats.existing, by the secret with its URL."
  }

  validation {
    condition     = alltrue([for id in [try(var.nats.existing.secret_id, null), try(var.nats.existing.ca_secret_id, null)] : id == null || can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]+$", id))])
    error_message = "nats.existing: the ID of a secret, alone or as projects/<project>/secrets/<ID>, and without a version."
  }

  validation {
    condition     = contains([1, 3, 5], try(var.nats.existing.replicas, 1))
    error_message = "nats.existing.replicas: 1, 3 or 5, and at most the number of nodes: a stream works as long as a majority of its nodes does."
  }
}

variable "results" {
  description = "The result bucket: a new one, or with `existing` the name of a bucket of yours in this project, with uniform bucket-level access. expire_days: days after which results are deleted, whatever their scope (0: never)."
  type = object({
    existing      = optional(string)
    expire_days   = optional(number, 90)
    versioned     = optional(bool, false)
    force_destroy = optional(bool, false)
  })
  default = {}

  validation {
    condition     = var.results.expire_days >= 0
    error_message = "results.expire_days: at least 1, or 0 to keep results until their scope ends."
  }
}

variable "events" {
  description = <<-EOT
    What starts a pass of the reconciler, beside the clock and its queue: whether objects written to the result bucket do
    (results), and who may publish to the topic `<name>-events`, whose messages do (publishers, as members of IAM). What
    triggers of playbooks may listen to: buckets by name, each of which gets a notification to the topic (buckets; for those of
    another project, `publishers` must name that project's storage account), and pull subscriptions by their full ID, from
    which the reconciler's account may pull (subscriptions).
  EOT
  type = object({
    results       = optional(bool, true)
    publishers    = optional(set(string), [])
    buckets       = optional(set(string), [])
    subscriptions = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for member in var.events.publishers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):", member))])
    error_message = "events.publishers: members with their kind, such as serviceAccount:name@project.iam.gserviceaccount.com; not everybody."
  }

  validation {
    condition     = alltrue([for bucket in var.events.buckets : can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", bucket))])
    error_message = "events.buckets: names of buckets, without gs://."
  }

  validation {
    condition     = alltrue([for id in var.events.subscriptions : can(regex("^projects/[^/]+/subscriptions/[^/]+$", id))])
    error_message = "events.subscriptions: full IDs of subscriptions, such as projects/my-project/subscriptions/orders."
  }
}

variable "encryption" {
  description = "The key that encrypts secrets, results and messages: Google's own."
  type = object({
    create = optional(bool, false)
    key_id = optional(string)
  })
  default = {}

  validation {
    condition     = !var.encryption.create && var.encryption.key_id == null
    error_message = "encryption: this deployment can neither create a key nor use one of yours yet, and Cloud Tasks could not: a queue with a target of its own takes no key. Leave it out: Google's keys encrypt everything."
  }
}

variable "secrets" {
  description = "How often service tokens are replaced: never yet (rotation_days = 0). They are valid for 400 days."
  type = object({
    recovery_days = optional(number, 0)
    rotation_days = optional(number, 0)
  })
  default = {}

  validation {
    condition     = var.secrets.rotation_days == 0
    error_message = "secrets.rotation_days: this deployment cannot rotate secrets yet. Leave it at 0, and replace the tokens yourself before they expire."
  }

  validation {
    condition     = var.secrets.recovery_days == 0
    error_message = "secrets.recovery_days: Secret Manager deletes a secret at once. Leave it at 0."
  }
}

variable "http" {
  description = "The HTTP API: Cloud Run's own URL of the gateway, without limits of its own and for pages of its own origin."
  type = object({
    rate         = optional(number)
    burst        = optional(number)
    cors_origins = optional(list(string))
  })
  default = {}

  validation {
    condition     = var.http.rate == null && var.http.burst == null && var.http.cors_origins == null
    error_message = "http: this deployment has nothing in front of the gateway yet that limits requests or lets other origins in. Leave it out; functions.gateway.max_instances limits what the gateway can cost."
  }
}

variable "observability" {
  description = "Logs are in Cloud Logging, for as long as the project keeps them (30 days by default)."
  type = object({
    log_retention_days = optional(number)
    emails             = optional(set(string), [])
    dashboard          = optional(bool, false)
  })
  default = {}

  validation {
    condition     = var.observability.log_retention_days == null && length(var.observability.emails) == 0 && !var.observability.dashboard
    error_message = "observability: this deployment can create neither alarms nor a dashboard yet, and the project's log bucket decides how long logs are kept. Leave it out, and make alerting policies on the metrics of Cloud Run and Cloud Tasks."
  }
}

variable "budget" {
  description = "Monthly limit in US dollars, and who is notified; it must be null."
  type = object({
    usd    = number
    emails = set(string)
  })
  default = null

  validation {
    condition     = var.budget == null
    error_message = "budget: this deployment cannot create one yet. Leave it out, and set a budget of the billing account."
  }
}
