"""The path of a playbook in the catalog."""

from __future__ import annotations


def catalog_path(path: str) -> str:
    """As the catalog has it: older playbooks, their callers and their schedules write it from the root."""
    return path[1:] if path.startswith("/") and path[1:2] not in ("", "/") else path
