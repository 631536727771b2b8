variable "name" {
  description = "Name of the database server."
  type        = string
}

variable "engine" {
  description = <<-EOT
    "postgres" is one RDS instance of instance_class, with a standby in another zone if multi_az; "aurora" is Aurora Serverless v2
    between min_acu and max_acu (min_acu = 0 pauses it after pause_s without a connection, and the next caller then waits for
    about 15 s).
  EOT
  type = object({
    kind           = optional(string, "postgres")
    version        = optional(string, "17")
    instance_class = optional(string, "db.t4g.small")
    storage_gb     = optional(number, 20)
    max_storage_gb = optional(number, 200)
    multi_az       = optional(bool, true)
    min_acu        = optional(number, 0.5)
    max_acu        = optional(number, 8)
    pause_s        = optional(number, 300)
    readers        = optional(number, 1)
  })
  default = {}

  validation {
    condition     = contains(["postgres", "aurora"], var.engine.kind)
    error_message = "engine.kind: postgres (RDS) or aurora (Aurora Serverless v2)."
  }

  validation {
    condition     = can(regex("^1[4-9](\\.[0-9]+)?$", var.engine.version))
    error_message = "engine.version: PostgreSQL 14 or later, such as 17 or 17.4."
  }

  validation {
    condition     = var.engine.storage_gb >= 20 && var.engine.max_storage_gb >= var.engine.storage_gb
    error_message = "engine.storage_gb: at least 20 GB, and max_storage_gb at least as much."
  }

  validation {
    condition     = var.engine.min_acu >= 0 && var.engine.max_acu >= 1 && var.engine.max_acu <= 256 && var.engine.min_acu <= var.engine.max_acu
    error_message = "engine.min_acu, max_acu: 0 to 256 Aurora capacity units; max_acu must be at least 1 and not below min_acu."
  }

  validation {
    condition     = var.engine.pause_s >= 300 && var.engine.pause_s <= 86400
    error_message = "engine.pause_s: Aurora pauses after 300 to 86400 s."
  }
}

variable "network" {
  description = "VPC and subnets of the database, and the security group of its clients."
  type = object({
    vpc_id                   = string
    subnet_ids               = list(string)
    client_security_group_id = string
  })
}

variable "protection" {
  description = "Backup retention in days, deletion protection, and whether a final snapshot is taken when the database is destroyed."
  type = object({
    backup_days    = optional(number, 7)
    protected      = optional(bool, true)
    final_snapshot = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.protection.backup_days >= 1 && var.protection.backup_days <= 35
    error_message = "protection.backup_days: RDS keeps backups for 1 to 35 days."
  }
}

variable "proxy" {
  description = "RDS Proxy between the functions and the database; iam: the functions authenticate with their roles."
  type = object({
    enabled             = optional(bool, false)
    iam                 = optional(bool, false)
    idle_s              = optional(number, 300)
    max_connections_pct = optional(number, 90)
  })
  default = {}

  validation {
    condition     = var.proxy.enabled || !var.proxy.iam
    error_message = "proxy.iam: only the proxy authenticates functions by their roles, so proxy.enabled must be true."
  }
}

variable "worker" {
  description = "Secret with the name and the password of the role of direct workers, whom the proxy signs in, too (null: there are none)."
  type        = object({ secret_arn = string })
  default     = null
}

variable "kms_key_arn" {
  description = "Key that encrypts storage, backups and the master user's secret (null: RDS's own)."
  type        = string
  default     = null
}
