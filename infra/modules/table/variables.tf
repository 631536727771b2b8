variable "file" {
  description = "Path of functions.yaml."
  type        = string
}

variable "host" {
  description = "The host in whose words functions.yaml speaks of this cloud: aws or gcp."
  type        = string
}

variable "name" {
  description = "Name of the deployment, with which the functions' full names begin."
  type        = string
}

variable "emulated" {
  description = "Whether the deployment is on an emulator, where an identity provider may be without TLS."
  type        = bool
  default     = false
}

variable "functions" {
  description = "Limits of functions in place of those in functions.yaml, and settings, which become NOETL_<NAME>."
  type = map(object({
    memory_mb     = optional(number)
    timeout_s     = optional(number)
    max_instances = optional(number)
    settings      = optional(map(string), {})
  }))
  default = {}

  validation {
    condition     = length(setsubtract(keys(var.functions), keys(local.described))) == 0
    error_message = "functions: the names are ${join(", ", keys(local.described))}."
  }

  validation {
    condition     = alltrue([for row in values(var.functions) : try(row.max_instances >= 1, row.max_instances == null)])
    error_message = "functions.max_instances: at least 1; with 0 the function would not run."
  }

  validation {
    condition     = alltrue([for name, given in var.functions : length(setsubtract(keys(given.settings), lookup(local.settable, name, []))) == 0])
    error_message = "functions.settings: functions.yaml names the settings that a function gets. They can be no secrets, which would be readable in the function's configuration."
  }
}

variable "pools" {
  description = "Additional worker pools: whose package they run, their tool kinds, and their limits."
  type = map(object({
    like          = string
    kinds         = set(string)
    memory_mb     = number
    timeout_s     = number
    max_instances = number
    labels        = optional(map(string), {})
    max_in_flight = optional(number)
    cpu           = optional(number)
    accelerator   = optional(string)
  }))
  default = {}

  # as hosts/table.py says it, of functions.yaml as well
  validation {
    condition     = var.host != "aws" || alltrue([for accelerator in concat(values(local.rows)[*].accelerator, values(var.pools)[*].accelerator) : accelerator == null])
    error_message = "AWS Lambda has no GPUs: let the pool ${join(" and ", concat([for row in values(local.rows) : row.pool if row.accelerator != null], [for pool, given in var.pools : pool if given.accelerator != null]))} run on Google Cloud (hosts: [gcp]), or leave out its accelerator."
  }

  validation {
    condition     = var.host != "aws" || alltrue([for row in concat([for row in values(local.rows) : { cpu = row.cpu, memory_mb = row.memory_mb }], [for row in values(var.pools) : { cpu = row.cpu, memory_mb = row.memory_mb }]) : row.cpu == null || try(row.memory_mb >= row.cpu * 1769, true)])
    error_message = "pools.cpu: AWS Lambda gives one CPU for each 1769 MB: set memory_mb accordingly."
  }

  validation {
    condition     = alltrue([for pool in values(var.pools) : try(pool.max_in_flight >= 1, true)])
    error_message = "pools.max_in_flight: at least 1; with 0 the pool would run nothing."
  }

  validation {
    condition     = alltrue([for pool in keys(var.pools) : can(regex("^[a-z][a-z0-9_]{0,19}$", pool)) && !contains(concat(values(local.rows)[*].pool, keys(local.rows)), pool)])
    error_message = "pools: a name has at most 20 lowercase letters, digits and underscores; ${join(" and ", [for row in values(local.rows) : row.pool if row.pool != null])} already exist, and functions have the names of others."
  }

  validation {
    condition     = alltrue([for pool in values(var.pools) : try(local.rows[pool.like].pool != null, false)])
    error_message = "pools.like: ${join(" or ", [for name, row in local.rows : name if row.pool != null])}, the available packages."
  }

  validation {
    condition     = length(flatten([for pool in values(var.pools) : tolist(pool.kinds)])) == length(distinct(flatten([for pool in values(var.pools) : tolist(pool.kinds)])))
    error_message = "pools.kinds: a tool kind can go to one pool only."
  }
}

variable "orchestrator" {
  description = "How the workers of a pool reach the orchestrator, by function: remote or direct, in place of what functions.yaml says."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.orchestrator) : contains(keys(local.pool_of), name)])
    error_message = "orchestrator: the names are those of workers: ${join(", ", keys(local.pool_of))}."
  }

  validation {
    condition     = alltrue([for way in values(var.orchestrator) : contains(["remote", "direct"], way)])
    error_message = "orchestrator: remote or direct."
  }

  validation {
    condition     = alltrue([for name, kinds in local.code_kinds : lookup(var.orchestrator, name, local.ways[name]) != "direct" || length(kinds) == 0])
    error_message = join("; ", [for name, kinds in local.code_kinds : "the pool ${local.pool_of[name]} runs users' code (${join(", ", kinds)}), which must not run beside the database's credentials: let it be remote, or give these kinds another pool" if lookup(var.orchestrator, name, local.ways[name]) == "direct" && length(kinds) > 0])
  }
}

variable "settings" {
  description = "Settings of the engine: the OpenID Connect provider that authenticates users, the lifetime of a session in seconds, the log level, where everybody reaches the gateway, and which stores are tried before the bucket for results whose playbook names none."
  type = object({
    oidc_issuer   = optional(string)
    oidc_audience = optional(string)
    session_ttl   = optional(number)
    public_url    = optional(string)
    log_level     = optional(string, "INFO")
    result_auto   = optional(string)
  })
  default = {}

  validation {
    condition     = (var.settings.oidc_issuer == null) == (var.settings.oidc_audience == null)
    error_message = "settings: set both oidc_issuer and oidc_audience or neither: without the audience, tokens for other applications would be accepted."
  }

  validation {
    condition     = var.settings.public_url == null || can(regex("^https://[^/?#@]+(/[^?#]*)?$", var.settings.public_url))
    error_message = "settings: public_url is a URL such as https://noetl.example.org: who has a callback URL may answer, so it is sent over HTTPS alone."
  }

  validation {
    condition     = var.settings.oidc_issuer == null || can(regex(var.emulated ? "^https?://" : "^https://", var.settings.oidc_issuer))
    error_message = "settings.oidc_issuer: an https URL."
  }

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.settings.log_level)
    error_message = "settings.log_level: DEBUG, INFO, WARNING or ERROR."
  }

  validation {
    condition     = length(setsubtract(split(",", coalesce(var.settings.result_auto, "kv")), ["kv", "postgres"])) == 0
    error_message = "settings.result_auto: kv, postgres, or both with a comma between."
  }
}

variable "secrets" {
  description = "The secrets that say how NATS is reached, in place of nats_url, and whether the database takes a password."
  type = object({
    nats     = optional(list(string), ["nats_url"])
    database = optional(bool, true)
  })
  default = {}
}

variable "database_url" {
  description = "URL of an existing database, without a password; null for one that the deployment creates."
  type        = string
  default     = null
}
