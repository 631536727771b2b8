variable "name" {
  description = "Name of the bucket, globally unique."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name: 3 to 63 lowercase letters, digits and hyphens; it must neither start nor end with a hyphen."
  }
}

variable "location" {
  description = "Region of the bucket."
  type        = string
}

variable "versioned" {
  description = "Whether overwritten and deleted objects are kept for noncurrent_days."
  type        = bool
  default     = true
}

variable "expiry" {
  description = "Days after which objects below a prefix are deleted, and old versions and unfinished uploads in the whole bucket."
  type = object({
    prefix          = optional(string, "")
    days            = optional(number)
    noncurrent_days = optional(number, 7)
    upload_days     = optional(number, 1)
  })
  default = {}

  validation {
    condition     = (var.expiry.days == null || try(var.expiry.days >= 1, false)) && var.expiry.noncurrent_days >= 1 && var.expiry.upload_days >= 1
    error_message = "expiry: Cloud Storage counts in whole days, from 1."
  }
}

variable "force_destroy" {
  description = "Whether destroying the deployment also destroys the objects in the bucket."
  type        = bool
  default     = false
}
