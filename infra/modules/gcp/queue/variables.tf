variable "name" {
  description = "Name of the queue."
  type        = string
}

variable "account" {
  description = "ID of the service account that calls the function."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.account))
    error_message = "account: 6 to 30 lowercase letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "location" {
  description = "Region of the queue and of the function."
  type        = string
}

variable "function" {
  description = "The function that the queue invokes: name and URL of its service, its timeout, and how many instances may run at once."
  type = object({
    name          = string
    uri           = string
    timeout_s     = number
    max_instances = optional(number)
  })

  validation {
    condition     = var.function.timeout_s <= 1800
    error_message = "function.timeout_s: a task waits at most 1800 s for its answer, so a function with a queue may not run for longer."
  }
}

variable "invokers" {
  description = "Who may add tasks, as members of IAM, by any names."
  type        = map(string)
  default     = {}
}

variable "max_attempts" {
  description = "Attempts after which a task is dropped. The default is high because a refusal while no instance is free counts as an attempt."
  type        = number
  default     = 20

  validation {
    condition     = var.max_attempts >= 1
    error_message = "max_attempts: at least 1; what nobody acknowledges must end some day."
  }
}
