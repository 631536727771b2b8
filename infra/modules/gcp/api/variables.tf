variable "function" {
  description = "Name and location of the function's service."
  type = object({
    name     = string
    location = string
  })
}

variable "callers" {
  description = "Who may call it, as members of IAM, by any names; allUsers is everybody on the internet."
  type        = map(string)

  validation {
    condition     = alltrue([for member in values(var.callers) : try(member == "allUsers" || strcontains(member, ":"), true)])
    error_message = "callers: allUsers, or a member with its kind, such as serviceAccount:name@project.iam.gserviceaccount.com."
  }
}
