variable "secrets" {
  description = "Secrets by short name: full name and purpose. Terraform creates them empty; their values never enter its state."
  type = map(object({
    name        = string
    description = string
  }))
}

variable "recovery_days" {
  description = "Days during which a deleted secret can be recovered; 0 deletes at once."
  type        = number
  default     = 7

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days: Secrets Manager waits 7 to 30 days, or 0 to delete at once."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the secrets (null: Secrets Manager's own)."
  type        = string
  default     = null
}
