variable "name" {
  description = "Name of the deployment."
  type        = string
}

variable "region" {
  description = "Region that the dashboard shows."
  type        = string
}

variable "functions" {
  description = "The functions: name in Lambda, timeout in seconds, and the consecutive minutes with errors after which an alarm is raised."
  type = map(object({
    name          = string
    timeout_s     = number
    error_minutes = optional(number, 3)
  }))
}

variable "queues" {
  description = "The queues by the pool or function that they invoke."
  type = map(object({
    name      = string
    dead_name = string
  }))
}

variable "scheduled_function" {
  description = "Function that is invoked on a schedule, and the minutes without an invocation after which an alarm is raised."
  type = object({
    name         = string
    late_minutes = optional(number, 5)
  })
}

variable "database" {
  description = "The database to monitor: name and value of its CloudWatch dimension; null for an existing database."
  type = object({
    kind  = string
    value = string
  })
  default = null
}

variable "alarms" {
  description = "Where alarms go: an existing topic, or the email addresses that a new one sends to."
  type = object({
    topic_arn      = optional(string)
    emails         = optional(set(string), [])
    waiting_s      = optional(number, 300)
    errors_percent = optional(number, 5)
  })
  default = {}

  validation {
    condition     = var.alarms.topic_arn == null || length(var.alarms.emails) == 0
    error_message = "alarms: set either topic_arn, whose owner decides who subscribes, or emails for a topic of this deployment."
  }

  validation {
    condition     = alltrue([for email in var.alarms.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))])
    error_message = "alarms.emails: an address such as ops@example.org."
  }
}

variable "dashboard" {
  description = "Whether to make a dashboard."
  type        = bool
  default     = true
}

variable "budget" {
  description = "Monthly limit in US dollars, and who is notified at 80 % and when the forecast exceeds it; null for no limit."
  type = object({
    usd    = number
    emails = set(string)
  })
  default = null

  validation {
    condition     = var.budget == null || try(var.budget.usd > 0 && length(var.budget.emails) > 0, false)
    error_message = "budget: more than 0 US dollars, and at least one address to notify."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the alarms' topic (null: none; alarms contain no secrets)."
  type        = string
  default     = null
}
