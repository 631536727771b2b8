variable "name" {
  description = "Name of the job, and ID of the service account that calls the function."
  type        = string
}

variable "location" {
  description = "Region of the job and of the function."
  type        = string
}

variable "function" {
  description = "The function that is called: name and URL of its service, and its timeout."
  type = object({
    name      = string
    uri       = string
    timeout_s = number
  })

  validation {
    condition     = var.function.timeout_s >= 15 && var.function.timeout_s <= 1800
    error_message = "function.timeout_s: Cloud Scheduler waits 15 to 1800 s for an answer."
  }
}

variable "every_minutes" {
  description = "Minutes between two calls: a divisor of 60."
  type        = number

  validation {
    condition     = var.every_minutes >= 1 && 60 % max(1, var.every_minutes) == 0
    error_message = "every_minutes: a divisor of 60, since Cloud Scheduler counts the minutes of an hour."
  }
}
