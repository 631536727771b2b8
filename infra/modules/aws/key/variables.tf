variable "name" {
  description = "Alias of the key, without alias/."
  type        = string
}

variable "account" {
  description = "The account whose administrators manage the key, and its region and partition."
  type = object({
    id        = string
    region    = string
    partition = string
  })
}

variable "deletion_days" {
  description = "Days during which the deletion of the key can be cancelled."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_days >= 7 && var.deletion_days <= 30
    error_message = "deletion_days: KMS waits 7 to 30 days."
  }
}
