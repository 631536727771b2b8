variable "secrets" {
  description = "ID of each secret, by its short name. Terraform creates them empty; their values never enter its state."
  type        = map(string)

  validation {
    condition     = alltrue([for id in values(var.secrets) : can(regex("^[A-Za-z0-9_-]{1,255}$", id))])
    error_message = "secrets: an ID has at most 255 letters, digits, hyphens and underscores."
  }
}

variable "location" {
  description = "Region in which the values are kept."
  type        = string
}
