"""Deployments: running Terraform with the packages it deploys, and using a finished deployment."""
