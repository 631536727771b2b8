"""Data sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..api import Api


def storage_project_service_account(api: Api, config: Mapping[str, Any]) -> dict[str, Any]:
    project = config["project"] or api.project
    if config["user_project"]:
        raise LookupError("the fake provider does not know user_project")
    email = api("GET", "storage", f"projects/{project}/serviceAccount")["email_address"]
    return {"id": email, "project": project, "email_address": email, "member": f"serviceAccount:{email}"}


SOURCES = {"google_storage_project_service_account": storage_project_service_account}
