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
}
