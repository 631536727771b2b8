"""A fake of Terraform providers, for tests where the real ones cannot be installed.

It serves a real provider's schema, which its published bindings carry, and really creates, reads, updates and deletes
resources through the cloud's API, at an emulator: never at the cloud itself. Each provider has a folder of its own.
"""
