variable "name" {
  description = "Name of the deployment, and prefix of the names of all its resources."
  type        = string
  default     = "noetl"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 lowercase letters, digits and hyphens; it must start with a letter and not end with a hyphen."
  }
}

variable "region" {
  description = "Region of the deployment."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: an AWS region, such as eu-central-1."
  }
}

variable "tags" {
  description = "Tags for all resources, in addition to `deployment` and `application`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "tags: names that begin with aws: are reserved by AWS."
  }
}

variable "endpoint_url" {
  description = "URL of an emulator that replaces all AWS services, for Terraform and for the functions; null on AWS itself."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint_url == null || can(regex("^https?://[^/]+$", var.endpoint_url))
    error_message = "endpoint_url: scheme, host and port without a path, such as http://127.0.0.1:4566."
  }
}

variable "package" {
  description = "Folder that `make package` wrote for one Python and one architecture: manifest.json and a zip for each function."
  type = object({
    directory = optional(string, "../../dist/aws/python3.12-x86_64")
  })
  default = {}

  validation {
    condition     = fileexists("${var.package.directory}/manifest.json")
    error_message = "package.directory: it contains no manifest.json. Run `make package` first, or name the folder that it wrote."
  }
}

variable "functions" {
  description = "Overrides of functions/functions.yaml, by function. max_instances is the function's reserved concurrency; batch_size is the number of queue messages that one invocation processes; settings become NOETL_<NAME>."
  type = map(object({
    memory_mb     = optional(number)
    timeout_s     = optional(number)
    max_instances = optional(number)
    scratch_mb    = optional(number)
    batch_size    = optional(number)
    settings      = optional(map(string), {})
  }))
  default = {}
}

variable "pools" {
  description = "Additional worker pools. like: the function whose package they run (worker: light tools; worker_data: with pyarrow and duckdb); kinds: the tool kinds that run in this pool instead of the one that functions.yaml names; a step may also name the pool. max_in_flight: commands that an instance runs at once. labels: what the list of pools says of it. cpu: how many CPUs an instance has to have, of which Lambda gives one for each 1769 MB. accelerator: refused, since Lambda has no GPUs."
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
    condition     = alltrue([for pool in values(var.pools) : pool.max_instances >= 2])
    error_message = "pools.max_instances: at least 2, the lowest limit that Lambda accepts for a queue."
  }
}

variable "orchestrator" {
  description = <<-EOT
    How the workers of a pool reach the orchestrator, by function (worker_<pool>): "remote" (the default), or "direct": in
    their own process, which saves an invocation of the control plane for each step. What direct costs is privilege: the
    function gets the network path to the database and a database role of its own, with which whoever takes over the function
    can read the log and the inputs of every execution and append to any of them; the role reads no credentials, and the
    function gets no keys. It is refused for a pool that runs users' code.
  EOT
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(values(var.orchestrator), "direct") || var.database.existing == null || var.database.auth != "iam" || length(try(var.database.existing.worker_resource_arns, [])) > 0
    error_message = "orchestrator: with database.auth = \"iam\", name in database.existing.worker_resource_arns the ARNs on which rds-db:connect is allowed for the role of direct workers."
  }
}

variable "settings" {
  description = "Settings of the engine beyond its infrastructure: the OpenID Connect provider that authenticates users, the lifetime of a session in seconds, and the log level. result_auto: kv and postgres, with a comma between, are tried in this order before the bucket for results whose playbook names no store. public_url: where everybody reaches the gateway, with which callback URLs begin; by default that of its API."
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
  description = "The VPC: a new one (zones; nat: none, one or each; interface endpoints; ports on which functions may connect to the outside), or with `existing` a VPC of yours whose private subnets reach Lambda, SQS, Secrets Manager and S3. Tools that call the internet need a NAT gateway."
  type = object({
    existing = optional(object({
      vpc_id     = string
      subnet_ids = list(string)
    }))
    cidr         = optional(string, "10.64.0.0/16")
    zones        = optional(number, 2)
    nat          = optional(string, "none")
    endpoints    = optional(set(string), ["lambda", "secretsmanager", "sqs"])
    egress_ports = optional(set(number), [443])
  })
  default = {}

  validation {
    condition     = var.network.existing != null || var.network.nat != "none" || length(setsubtract(["lambda", "secretsmanager", "sqs"], var.network.endpoints)) == 0
    error_message = "network: without a NAT gateway (nat) the functions reach Lambda, Secrets Manager and SQS only through endpoints, which must include lambda, secretsmanager and sqs."
  }

  validation {
    condition     = contains(var.network.egress_ports, 443)
    error_message = "network.egress_ports: must include 443, the port of the AWS services."
  }
}

variable "database" {
  description = <<-EOT
    PostgreSQL: one RDS instance (kind = "postgres"), Aurora Serverless v2 (kind = "aurora"), or with `existing` a database of
    yours: its URL without a password, the secret with the password (or with RDS's JSON, or with a whole URL), and its network
    location. auth = "iam": functions authenticate with their roles, through the proxy or to an existing database, whose
    resource_arns name what they may connect to, and worker_resource_arns what direct workers may, as <database>_worker.
  EOT
  type = object({
    existing = optional(object({
      url                  = string
      secret_arn           = optional(string)
      resource_arns        = optional(list(string), [])
      worker_resource_arns = optional(list(string), [])
      cidr                 = optional(string)
      port                 = optional(number, 5432)
    }))
    kind                = optional(string, "postgres")
    version             = optional(string, "17")
    instance_class      = optional(string, "db.t4g.small")
    storage_gb          = optional(number, 20)
    max_storage_gb      = optional(number, 200)
    multi_az            = optional(bool, true)
    min_acu             = optional(number, 0.5)
    max_acu             = optional(number, 8)
    pause_s             = optional(number, 300)
    readers             = optional(number, 1)
    backup_days         = optional(number, 7)
    protected           = optional(bool, true)
    final_snapshot      = optional(bool, true)
    proxy               = optional(bool, false)
    auth                = optional(string, "secret")
    max_connections_pct = optional(number, 90)
  })
  default = {}

  validation {
    condition     = contains(["secret", "iam"], var.database.auth)
    error_message = "database.auth: secret (a password from Secrets Manager) or iam (the functions' roles)."
  }

  validation {
    condition     = var.database.auth != "iam" || var.database.existing != null || var.database.proxy
    error_message = "database.auth = \"iam\": only the proxy authenticates functions by their roles, so set proxy = true, or use an existing database."
  }

  validation {
    condition     = var.database.auth != "iam" || var.database.existing == null || length(try(var.database.existing.resource_arns, [])) > 0
    error_message = "database.existing.resource_arns: for auth = \"iam\", name the ARNs on which rds-db:connect is allowed (arn:aws:rds-db:<region>:<account>:dbuser:<resource>/<user>)."
  }

  validation {
    condition     = var.database.auth != "secret" || var.database.existing == null || try(var.database.existing.secret_arn != null, false)
    error_message = "database.existing.secret_arn: for auth = \"secret\", name the secret that holds the password."
  }

  validation {
    condition     = var.database.existing == null || can(regex("^postgres(ql)?://([^:@/]+@)?[^@/]+/[^/?]+", var.database.existing.url))
    error_message = "database.existing.url: postgresql://[user@]host[:port]/database[?sslmode=...], without a password, which belongs in the secret."
  }

  validation {
    condition     = var.database.existing == null || !var.database.proxy
    error_message = "database.proxy: no proxy is created for an existing database; if it has a pooler, give the pooler's host in existing.url."
  }
}

variable "nats" {
  description = <<-EOT
    NATS with JetStream: a cluster of Fargate tasks with TLS and volumes (`cluster`, whose image must be in ECR unless there is a
    NAT gateway), or with `existing` a NATS of yours: the secret that holds its URL (tls://user:password@host:4222, or several,
    comma separated), and in ca_secret_arn its own certificate authority as PEM, if it has one. replicas: the number of its
    nodes that hold each stream; in a cluster created here it is three, or all nodes if there are fewer.
  EOT
  type = object({
    existing = optional(object({
      secret_arn    = string
      ca_secret_arn = optional(string)
      cidr          = optional(string)
      port          = optional(number, 4222)
      replicas      = optional(number, 1)
    }))
    cluster = optional(object({
      image        = string
      count        = optional(number, 3)
      cpu          = optional(number, 256)
      memory_mb    = optional(number, 512)
      storage_gb   = optional(number, 10)
      architecture = optional(string, "ARM64")
    }))
  })

  validation {
    condition     = (var.nats.existing == null) != (var.nats.cluster == null)
    error_message = "nats: set either `cluster`, which creates one, or `existing`, which names the secret with the URL of one."
  }

  validation {
    condition     = var.nats.cluster == null || var.network.existing != null || var.network.nat != "none" || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.", var.nats.cluster.image))
    error_message = "nats.cluster.image: without a NAT gateway (network.nat) only an image in ECR can be pulled: copy the image there, or set network.nat."
  }

  validation {
    condition     = var.nats.cluster == null || can(regex("(@sha256:[0-9a-f]{64}|:[0-9A-Za-z._-]+)$", var.nats.cluster.image)) && !endswith(try(var.nats.cluster.image, ""), ":latest")
    error_message = "nats.cluster.image: name a version (a tag other than latest, or a digest), so that a restart is not an upgrade."
  }

  validation {
    condition     = contains([1, 3, 5], try(var.nats.existing.replicas, 1))
    error_message = "nats.existing.replicas: 1, 3 or 5, and at most the number of nodes: a stream works as long as a majority of its nodes does."
  }
}

variable "results" {
  description = "The result bucket: a new one, or with `existing` the name of a bucket of yours. expire_days: days after which results are deleted, whatever their scope (0: never)."
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
    (results), and who may publish to the topic `<name>-events`, whose messages do (publishers: ARNs of accounts, roles and
    users, which with a key need kms:Decrypt and kms:GenerateDataKey on it). All notifications of a bucket are one setting, so
    that of an existing bucket is left to its owner: the topic lets it publish. results is true by default, but not with a key
    of yours (encryption.key_arn), which must let s3.amazonaws.com and sns.amazonaws.com use it. What triggers of playbooks may
    listen to: buckets of this account by name, which may publish to the topic (buckets), and queues by ARN, from which the
    reconciler receives and deletes (queues).
  EOT
  type = object({
    results    = optional(bool)
    publishers = optional(set(string), [])
    buckets    = optional(set(string), [])
    queues     = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for bucket in var.events.buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "events.buckets: names of buckets, without s3://."
  }

  validation {
    condition     = alltrue([for arn in var.events.queues : can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+$", arn))])
    error_message = "events.queues: ARNs of queues, such as arn:aws:sqs:eu-central-1:123456789012:orders."
  }
}

variable "encryption" {
  description = "The key that encrypts secrets, queues, logs, results, volumes and the database: a new one (create), an existing one (key_arn), or with create = false each service's own. extra_key_arns: keys that encrypt the resources that you bring."
  type = object({
    create         = optional(bool, true)
    key_arn        = optional(string)
    deletion_days  = optional(number, 30)
    extra_key_arns = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = var.encryption.key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.encryption.key_arn))
    error_message = "encryption.key_arn: the ARN of a key, not its ID or alias, since policies name the key."
  }
}

variable "secrets" {
  description = "recovery_days: how long deleted secrets can be recovered (0: not at all). rotation_days: how often service tokens are replaced (0: never). grace_days: how long a replaced token remains valid, for functions that still hold it and in case a rotation fails."
  type = object({
    recovery_days = optional(number, 7)
    rotation_days = optional(number, 90)
    grace_days    = optional(number, 30)
  })
  default = {}

  validation {
    condition     = var.secrets.rotation_days >= 0 && var.secrets.rotation_days <= 365
    error_message = "secrets.rotation_days: 1 to 365, or 0 for never."
  }

  validation {
    condition     = var.secrets.grace_days >= 1
    error_message = "secrets.grace_days: at least 1. A function keeps its token as long as it is warm, which may be hours."
  }
}

variable "http" {
  description = "The HTTP API: requests per second, CORS, and whether the control plane has an HTTP API too (for tools outside AWS; otherwise it is called through Lambda's own API)."
  type = object({
    rate          = optional(number, 500)
    burst         = optional(number, 1000)
    cors_origins  = optional(list(string))
    control_plane = optional(bool, false)
  })
  default = {}
}

variable "observability" {
  description = "Log retention in days, where alarms go (topic_arn of an existing topic, or emails for a new one), the seconds an invocation may wait (waiting_s) and the minutes the reconciler may not run (late_minutes) before an alarm goes off, and whether there is a dashboard."
  type = object({
    log_retention_days = optional(number, 30)
    topic_arn          = optional(string)
    emails             = optional(set(string), [])
    waiting_s          = optional(number, 300)
    late_minutes       = optional(number, 5)
    dashboard          = optional(bool, true)
  })
  default = {}

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.observability.log_retention_days)
    error_message = "observability.log_retention_days: CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 days, or 3 to 10 years."
  }
}

variable "budget" {
  description = "Monthly limit in US dollars, and who is notified; null for no limit."
  type = object({
    usd    = number
    emails = set(string)
  })
  default = null
}
