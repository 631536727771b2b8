variable "name" {
  description = "Name of the topic and of its subscription, and ID of the service account that calls the function."
  type        = string
}

variable "location" {
  description = "Region of the function."
  type        = string
}

variable "function" {
  description = "The function that each message calls: name and URL of its service, and its timeout."
  type = object({
    name      = string
    uri       = string
    timeout_s = number
  })

  validation {
    condition     = var.function.timeout_s >= 10 && var.function.timeout_s <= 600
    error_message = "function.timeout_s: Pub/Sub waits 10 to 600 s for an answer."
  }
}

variable "results" {
  description = "Bucket and prefix of the objects whose creation is a message; null for none."
  type = object({
    bucket = string
    prefix = string
  })
  default = null
}

variable "buckets" {
  description = "Names of other buckets of which the creation of each object is a message."
  type        = set(string)
  default     = []
}

variable "publishers" {
  description = "Who may publish to the topic, as members of IAM, beside the buckets of this project that are named."
  type        = set(string)
  default     = []
}
