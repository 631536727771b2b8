variable "name" {
  description = "Name of the VPC, and prefix of the names of its parts."
  type        = string
}

variable "region" {
  description = "Region, for the service names of the endpoints."
  type        = string
}

variable "vpc" {
  description = <<-EOT
    The VPC to create. zones: how many availability zones it spans. nat: a NAT gateway for the internet ("none", "one" for all
    zones, "each" for one in each). endpoints: AWS services that are reached through interface endpoints; S3 always has a
    gateway endpoint, which is free. egress_ports: ports on which the functions may connect to AWS services and the outside.
  EOT
  type = object({
    cidr         = optional(string, "10.64.0.0/16")
    zones        = optional(number, 2)
    nat          = optional(string, "none")
    endpoints    = optional(set(string), ["lambda", "secretsmanager", "sqs"])
    egress_ports = optional(set(number), [443])
  })
  default = {}

  validation {
    condition     = can(cidrnetmask(var.vpc.cidr)) && try(tonumber(split("/", var.vpc.cidr)[1]) <= 22 && tonumber(split("/", var.vpc.cidr)[1]) >= 16, false)
    error_message = "vpc.cidr: an IPv4 range of /16 to /22, such as 10.64.0.0/16; each subnet is a sixteenth of it."
  }

  validation {
    condition     = var.vpc.zones >= 2 && var.vpc.zones <= 6
    error_message = "vpc.zones: 2 to 6. A database and a cluster need at least two availability zones."
  }

  validation {
    condition     = contains(["none", "one", "each"], var.vpc.nat)
    error_message = "vpc.nat: none, one, or each (one in each availability zone)."
  }
}

variable "existing" {
  description = "An existing VPC: its private subnets must reach Lambda, SQS, Secrets Manager and S3."
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })
  default = null

  validation {
    condition     = var.existing == null || length(try(var.existing.subnet_ids, [])) >= 2
    error_message = "existing.subnet_ids: at least two private subnets, in two availability zones."
  }
}
