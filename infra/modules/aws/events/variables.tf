variable "name" {
  description = "Name of the topic."
  type        = string
}

variable "queue_arn" {
  description = "ARN of the function's queue, whose policy must let the topic send to it."
  type        = string
}

variable "results" {
  description = "Bucket and prefix of the objects whose creation is a message, and whether the bucket is told to notify the topic here (notify), or by its owner; null for no such messages."
  type = object({
    bucket     = string
    bucket_arn = string
    prefix     = string
    notify     = bool
  })
  default = null
}

variable "publishers" {
  description = "ARNs of the accounts, roles and users that may publish to the topic."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.publishers : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:", arn))])
    error_message = "publishers: ARNs of accounts (arn:aws:iam::123456789012:root), roles or users; not everybody."
  }
}

variable "buckets" {
  description = "ARNs of other buckets of this account that may publish to the topic."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.buckets : can(regex("^arn:[a-z-]+:s3:::[^/*]+$", arn))])
    error_message = "buckets: ARNs of buckets (arn:aws:s3:::name), each by its name."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the messages (null: none of the deployment's); its policy must let S3 and SNS use it."
  type        = string
  default     = null
}
