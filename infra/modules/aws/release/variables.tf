variable "function" {
  description = "Name and newest version of the function."
  type = object({
    name    = string
    version = string
  })
}

variable "queue" {
  description = "The queue that invokes the function, or null. max_concurrency: how many instances the queue may start."
  type = object({
    arn             = string
    batch_size      = optional(number, 1)
    max_concurrency = optional(number)
  })
  default = null

  validation {
    condition     = try(var.queue.batch_size, 1) >= 1 && try(var.queue.batch_size, 1) <= 10
    error_message = "queue.batch_size: 1 to 10 messages, since the queue does not wait to fill a batch."
  }

  validation {
    condition     = try(var.queue.max_concurrency, null) == null || try(var.queue.max_concurrency >= 2 && var.queue.max_concurrency <= 1000, false)
    error_message = "queue.max_concurrency: Lambda accepts 2 to 1000."
  }
}

variable "schedule" {
  description = "The schedule that starts the function, or null: interval in minutes, and input."
  type = object({
    every_minutes = number
    input         = string
    dead_arn      = string
    kms_key_arn   = optional(string)
  })
  default = null

  validation {
    condition     = try(var.schedule.every_minutes, 1) >= 1
    error_message = "schedule.every_minutes: EventBridge Scheduler counts in whole minutes."
  }
}
