variable "name" {
  description = "Name of the queue; its dead letters go to <name>-dead."
  type        = string
}

variable "visibility_s" {
  description = "Seconds for which a received message is hidden from other consumers: longer than the function may run."
  type        = number

  validation {
    condition     = var.visibility_s >= 1 && var.visibility_s <= 43200
    error_message = "visibility_s: SQS hides a message for at most 43200 s."
  }
}

variable "max_receives" {
  description = "Deliveries after which a message goes to the dead-letter queue. The default is high because throttling counts as a delivery."
  type        = number
  default     = 20

  validation {
    condition     = var.max_receives >= 1 && var.max_receives <= 1000
    error_message = "max_receives: SQS allows 1 to 1000 deliveries."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the messages (null: SQS's own)."
  type        = string
  default     = null
}

variable "tls_only" {
  description = "Whether requests without TLS are refused; false only for an emulator that does not support TLS."
  type        = bool
  default     = true
}

variable "topic" {
  description = "The topic that sends to the queue, or null."
  type        = object({ arn = string })
  default     = null
}
