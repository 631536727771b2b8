variable "name" {
  description = "Name of the function's service."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,47}[a-z0-9]$", var.name))
    error_message = "name: at most 49 lowercase letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "account" {
  description = "ID of the function's service account."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.account))
    error_message = "account: 6 to 30 lowercase letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "description" {
  description = "What the function does, in one line."
  type        = string
}

variable "location" {
  description = "Region of the function."
  type        = string
}

variable "code" {
  description = "The image that runs, and what it was built from: location of the package, base image and account."
  type = object({
    image         = string
    source        = string
    base_image    = string
    build_account = string
  })
}

variable "limits" {
  description = "Resources of an instance, requests that it takes at once, and how many instances may run at once (null: as many as the project allows). accelerator: the GPU of an instance."
  type = object({
    memory_mb     = number
    timeout_s     = number
    concurrency   = number
    max_instances = optional(number)
    cpu           = optional(number)
    accelerator   = optional(string)
  })

  validation {
    condition     = var.limits.memory_mb >= 512 && var.limits.memory_mb <= 32768
    error_message = "limits.memory_mb: Cloud Run offers 512 to 32768 MB in its second execution environment."
  }

  validation {
    condition     = contains([1, 2, 4, 6, 8], coalesce(var.limits.cpu, 1))
    error_message = "limits.cpu: Cloud Run offers 1, 2, 4, 6 or 8 CPUs."
  }

  validation {
    condition     = var.limits.accelerator == null || (try(var.limits.cpu >= 4, false) && var.limits.memory_mb >= 16384)
    error_message = "limits.accelerator: an instance with a GPU needs at least 4 CPUs and 16384 MB."
  }

  validation {
    condition     = can(regex("^nvidia-[a-z0-9-]+$", coalesce(var.limits.accelerator, "nvidia-l4")))
    error_message = "limits.accelerator: a type that Cloud Run offers, such as nvidia-l4."
  }

  validation {
    condition     = var.limits.timeout_s >= 1 && var.limits.timeout_s <= 3600
    error_message = "limits.timeout_s: a request to Cloud Run lasts at most 3600 s."
  }

  validation {
    condition     = var.limits.concurrency >= 1 && var.limits.concurrency <= 1000
    error_message = "limits.concurrency: an instance takes 1 to 1000 requests at once."
  }
}

variable "environment" {
  description = "Environment variables. No secret belongs here: Cloud Run shows them to everyone who may read the service."
  type        = map(string)
  default     = {}
}

variable "reached_from" {
  description = "internet, or project: only Cloud Tasks, Cloud Scheduler, Pub/Sub and VPC networks of the same project. Either way IAM decides who may call."
  type        = string

  validation {
    condition     = contains(["internet", "project"], var.reached_from)
    error_message = "reached_from: internet or project."
  }
}

variable "network" {
  description = "VPC network and subnetwork through which the function connects, and whether to private addresses only (private) or to all (all); null for none."
  type = object({
    network    = string
    subnetwork = string
    egress     = string
  })
  default = null
}

variable "access" {
  description = <<-EOT
    What the function may do: read and fill secrets (full IDs, by any names). results: read, write (and delete), or sweep
    (list, read and delete) the objects below a prefix of a bucket. signs: URLs of these objects. polls: the subscriptions of
    Pub/Sub that it pulls (full IDs).
  EOT
  type = object({
    reads   = optional(map(string), {})
    fills   = optional(map(string), {})
    results = optional(object({ verb = string, bucket = string, prefix = string }))
    signs   = optional(bool, false)
    polls   = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = contains(["read", "write", "sweep"], try(var.access.results.verb, "read"))
    error_message = "access.results.verb: read, write or sweep."
  }

  validation {
    condition     = alltrue([for id in values(merge(var.access.reads, var.access.fills)) : try(can(regex("^projects/[^/]+/secrets/[^/]+$", id)), true)])
    error_message = "access: name each secret by its full ID, projects/<project>/secrets/<ID>."
  }
}
