variable "name" {
  description = "Name of the cluster, and prefix of the names of its parts."
  type        = string
}

variable "region" {
  description = "Region, for the nodes' logs."
  type        = string
}

variable "nodes" {
  description = "The nodes: number, size, image and processor architecture."
  type = object({
    image        = string
    count        = optional(number, 3)
    cpu          = optional(number, 256)
    memory_mb    = optional(number, 512)
    storage_gb   = optional(number, 10)
    architecture = optional(string, "ARM64")
  })

  validation {
    condition     = contains([1, 3, 5], var.nodes.count)
    error_message = "nodes.count: 1, 3 or 5. JetStream decides by majority, so an even number adds cost but no safety."
  }

  validation {
    condition     = contains(["ARM64", "X86_64"], var.nodes.architecture)
    error_message = "nodes.architecture: ARM64 or X86_64, as ECS spells them."
  }

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.nodes.cpu) && var.nodes.memory_mb >= 2 * var.nodes.cpu && var.nodes.memory_mb <= 8 * var.nodes.cpu
    error_message = "nodes.cpu, memory_mb: Fargate offers 256, 512, 1024, 2048 or 4096 CPU units, with 2 to 8 times as many MB of memory."
  }
}

variable "hosts" {
  description = "Names of the nodes below the private domain, in order: nats-1, nats-2..."
  type        = list(string)
}

variable "domain" {
  description = "Private DNS domain of the nodes."
  type        = string
}

variable "network" {
  description = "Where the nodes run, and the security group of their clients."
  type = object({
    vpc_id                   = string
    subnet_ids               = list(string)
    client_security_group_id = string
  })
}

variable "user" {
  description = "User name of the clients."
  type        = string
  default     = "noetl"
}

variable "secrets" {
  description = "Secrets that the control plane creates: the clients' password, and the nodes' ca, certificate and key (PEM) as JSON."
  type = object({
    password_arn = string
    server_arn   = string
  })
}

variable "kms_key_arn" {
  description = "Key that encrypts the volumes, the secret and the log (null: the services' own)."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long the nodes' logs are kept."
  type        = number
  default     = 30
}
