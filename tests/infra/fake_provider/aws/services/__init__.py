"""The types of resources, by service."""
