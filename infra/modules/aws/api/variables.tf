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
  description = "Origins whose pages may call the API; null for its own origin only."
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
  description = "Requests per second that are let through, and the burst above that rate."
  type = object({
    rate  = optional(number, 500)
    burst = optional(number, 1000)
  })
  default = {}

  validation {
    condition     = var.throttle.rate > 0 && var.throttle.burst > 0
    error_message = "throttle: rate and burst must be above 0, or every request would be refused."
  }
}

variable "log" {
  description = "Retention and encryption key of the access log."
  type = object({
    retention_days = optional(number, 30)
    kms_key_arn    = optional(string)
  })
  default = {}
}
