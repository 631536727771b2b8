"""Deployments: Terraform run with the packages it deploys, and what is done with one that stands."""
