"""Secret Manager."""

from __future__ import annotations

from ..policy import Member
from ..resource import Rest


class Secret(Rest):
    type = "google_secret_manager_secret"
    service = "secret_manager"
    path = "projects/{project}/secrets/{secret_id}"
    id_parameter = "secretId"
    names = {"replication.auto": "automatic"}
    replace = ("project", "replication.auto", "replication.user_managed", "secret_id", "tags")
    defaults = {"deletion_protection": False}
    local = ("deletion_protection",)
    kept = ("tags", "ttl")
    alternatives = (("replication.auto", "replication.user_managed"),)
    # the API's
    patterns = {"secret_id": r"[A-Za-z0-9_-]{1,255}"}


class SecretMember(Member):
    type = "google_secret_manager_secret_iam_member"
    service = "secret_manager"
    path = "projects/{project}/secrets/{secret_id}"
    version_parameter = "options.requestedPolicyVersion"
