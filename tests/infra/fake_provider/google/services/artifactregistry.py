"""Artifact Registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...given import Given
from ...resource import State
from ..api import Api
from ..policy import Member
from ..resource import Operated, last, seconds


class Repository(Operated):
    type = "google_artifact_registry_repository"
    service = "artifact_registry"
    path = "projects/{project}/locations/{location}/repositories/{repository_id}"
    id_parameter = "repositoryId"
    replace = (
        "format",
        "kms_key_name",
        "location",
        "maven_config.allow_snapshot_overwrites",
        "maven_config.version_policy",
        "mode",
        "project",
        "repository_id",
    )
    defaults = {
        "cleanup_policies.condition.tag_state": "ANY",
        "maven_config.version_policy": "VERSION_POLICY_UNSPECIFIED",
        "mode": "STANDARD_REPOSITORY",
    }
    durations = ("cleanup_policies.condition.newer_than", "cleanup_policies.condition.older_than")
    left_open = ("vulnerability_scanning_config",)
    volatile = ("update_time",)
    choices = {
        "cleanup_policies.action": ("DELETE", "KEEP"),
        "cleanup_policies.condition.tag_state": ("TAGGED", "UNTAGGED", "ANY"),
        "maven_config.version_policy": ("VERSION_POLICY_UNSPECIFIED", "RELEASE", "SNAPSHOT"),
        "mode": ("STANDARD_REPOSITORY", "VIRTUAL_REPOSITORY", "REMOTE_REPOSITORY"),
        "vulnerability_scanning_config.enablement_config": ("INHERITED", "DISABLED"),
    }
    # the API's
    patterns = {"repository_id": r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"}

    def encode(self, api: Api, want: Given) -> dict[str, Any]:
        body = super().encode(api, want)
        if "cleanupPolicies" in body:
            body["cleanupPolicies"] = {policy["id"]: _policy(policy) for policy in body["cleanupPolicies"]}
        return body

    def decode(self, api: Api, found: Mapping[str, Any], state: Mapping[str, Any]) -> State:
        policies = [{"id": name, **policy} for name, policy in found.get("cleanupPolicies", {}).items()]
        return super().decode(api, {**found, "cleanupPolicies": policies}, state) | {"name": last(found["name"])}

    def finish(self, api: Api, answer: dict[str, Any]) -> None:
        # a change answers with the repository itself
        if "operations" in answer["name"].split("/"):
            super().finish(api, answer)

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path == "format" and one and other:
            return bool(one.upper() == other.upper())
        return super().same(path, one, other)


def _policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Its ages in seconds: the API knows no days."""
    condition = dict(policy.get("condition", {}))
    for name in {"newerThan", "olderThan"} & set(condition):
        condition[name] = f"{seconds(condition[name]):.0f}s"
    return {**policy, "condition": condition} if condition else dict(policy)


class RepositoryMember(Member):
    type = "google_artifact_registry_repository_iam_member"
    service = "artifact_registry"
    path = "projects/{project}/locations/{location}/repositories/{repository}"
