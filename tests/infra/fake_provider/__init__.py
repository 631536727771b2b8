"""A fake of the Terraform provider hashicorp/aws, for tests where the real one cannot be installed.

It serves the real provider's schema, which its published bindings carry, and really creates, reads, updates and deletes
resources through boto3, at the endpoint of an emulator: never at AWS itself.
"""
