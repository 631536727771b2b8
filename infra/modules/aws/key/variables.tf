variable "name" {
  description = "Alias of the key, without alias/."
  type        = string
}

variable "account" {
  description = "The account whose administrators manage the key, and the region and partition it is in."
  type = object({
    id        = string
    region    = string
    partition = string
  })
}

variable "deletion_days" {
  description = "How long a key that is deleted can be called back."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_days >= 7 && var.deletion_days <= 30
    error_message = "deletion_days: KMS waits 7 to 30 days."
  }
}
