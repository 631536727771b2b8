variable "name" {
  description = "Name of the queue; its dead letters go to <name>-dead."
  type        = string
}

variable "visibility_s" {
  description = "How long a message is hidden from others once it is taken: longer than the function runs."
  type        = number

  validation {
    condition     = var.visibility_s >= 1 && var.visibility_s <= 43200
    error_message = "visibility_s: SQS hides a message for at most 43200 s."
  }
}

variable "max_receives" {
  description = "After how many deliveries a message is dead. Invocations are hints, and throttling counts as a delivery: so, many."
  type        = number
  default     = 20

  validation {
    condition     = var.max_receives >= 1 && var.max_receives <= 1000
    error_message = "max_receives: SQS counts 1 to 1000 deliveries."
  }
}

variable "kms_key_arn" {
  description = "Key that seals the messages (null: the queue service's own)."
  type        = string
  default     = null
}

variable "tls_only" {
  description = "Whether requests without TLS are refused: always, but for an emulator that knows no TLS."
  type        = bool
  default     = true
}
