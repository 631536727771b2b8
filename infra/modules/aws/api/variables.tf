variable "name" {
  description = "Name of the API."
  type        = string
}

variable "function" {
  description = "The function behind the API, by its alias."
  type = object({
    name       = string
    alias      = string
    invoke_arn = string
  })
}

variable "cors" {
  description = "Origins whose pages may call the API; null for none but its own."
  type = object({
    origins     = list(string)
    max_age_s   = optional(number, 600)
    credentials = optional(bool, true)
  })
  default = null

  validation {
    condition     = !(try(var.cors.credentials, false) && contains(try(var.cors.origins, []), "*"))
    error_message = "cors: browsers refuse credentials for the origin \"*\"; name the origins."
  }
}

variable "throttle" {
  description = "Requests a second that go through, and how many at once on top."
  type = object({
    rate  = optional(number, 500)
    burst = optional(number, 1000)
  })
  default = {}

  validation {
    condition     = var.throttle.rate > 0 && var.throttle.burst > 0
    error_message = "throttle: with 0 nothing would go through."
  }
}

variable "log" {
  description = "How long and with which key the access log is kept."
  type = object({
    retention_days = optional(number, 30)
    kms_key_arn    = optional(string)
  })
  default = {}
}
