variable "name" {
  description = "Name of the function, of its role and of its log group (below /aws/lambda/)."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,63}$", var.name))
    error_message = "name: at most 64 lowercase letters, digits and hyphens, starting with a letter."
  }
}

variable "description" {
  description = "What the function does, in one line."
  type        = string
}

variable "code" {
  description = "Location of the package, its SHA-256 in base64, and its handler, runtime and architecture."
  type = object({
    bucket       = string
    key          = string
    sha256       = string
    handler      = string
    runtime      = string
    architecture = string
  })

  validation {
    condition     = contains(["x86_64", "arm64"], var.code.architecture)
    error_message = "code.architecture: x86_64 or arm64."
  }
}

variable "limits" {
  description = "Resources of an instance, and how many instances may run at once (null: as many as the account allows)."
  type = object({
    memory_mb     = number
    timeout_s     = number
    max_instances = optional(number)
    scratch_mb    = optional(number, 512)
  })

  validation {
    condition     = var.limits.memory_mb >= 128 && var.limits.memory_mb <= 10240
    error_message = "limits.memory_mb: Lambda offers 128 to 10240 MB."
  }

  validation {
    condition     = var.limits.timeout_s >= 1 && var.limits.timeout_s <= 900
    error_message = "limits.timeout_s: an invocation of Lambda lasts at most 900 s."
  }

  validation {
    condition     = var.limits.scratch_mb >= 512 && var.limits.scratch_mb <= 10240
    error_message = "limits.scratch_mb: /tmp has 512 to 10240 MB."
  }
}

variable "environment" {
  description = "Environment variables. No secret belongs here: Lambda shows them to everyone who may read the function."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Private subnets and security groups of the function's interfaces."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
}

variable "access" {
  description = <<-EOT
    What the function may do beyond writing its log and joining its network, each by the ARNs on which it may: read, fill and
    rotate secrets; invoke functions through their queues; receive from its own queue, and send its dead letters; poll queues of others; call functions
    and wait for their answer; connect to the database; use keys. results: read, write (and delete), or sweep (list, read and delete) the
    objects below a prefix of a bucket.
  EOT
  type = object({
    reads        = optional(list(string), [])
    fills        = optional(list(string), [])
    rotates      = optional(list(string), [])
    invokes      = optional(list(string), [])
    receives     = optional(string)
    polls        = optional(list(string), [])
    dead_letters = optional(string)
    calls        = optional(list(string), [])
    connects     = optional(list(string), [])
    keys         = optional(list(string), [])
    results      = optional(object({ verb = string, bucket_arn = string, prefix = string }))
  })
  default = {}

  validation {
    condition     = contains(["read", "write", "sweep"], try(var.access.results.verb, "read"))
    error_message = "access.results.verb: read, write or sweep."
  }

  validation {
    condition = alltrue([
      for arn in flatten([for resources in values(var.access) : try(tolist(resources), [resources])]) :
      arn == null || try(startswith(arn, "arn:"), true)
    ])
    error_message = "access: name each resource by its ARN; \"*\" allows more than the function needs."
  }
}

variable "log" {
  description = "Retention and encryption key of the log."
  type = object({
    retention_days = optional(number, 30)
    kms_key_arn    = optional(string)
  })
  default = {}
}

variable "kms_key_arn" {
  description = "Key that encrypts the environment variables (null: Lambda's own)."
  type        = string
  default     = null
}

variable "partition" {
  description = "AWS partition, for ARNs."
  type        = string
  default     = "aws"
}
