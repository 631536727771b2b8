variable "name" {
  description = "Name of the deployment, and of the repository of its images."
  type        = string
}

variable "project" {
  description = "ID of the project."
  type        = string
}

variable "location" {
  description = "Region of the bucket and of the repository."
  type        = string
}

variable "packages" {
  description = "The packages by name: the path of the zip, and its SHA-256 in hexadecimal."
  type = map(object({
    file   = string
    sha256 = string
  }))
}

variable "base_image" {
  description = "Base image of the build, such as python313."
  type        = string

  validation {
    condition     = can(regex("^python3[0-9]+$", var.base_image))
    error_message = "base_image: one of Google's for Python, such as python313."
  }
}
