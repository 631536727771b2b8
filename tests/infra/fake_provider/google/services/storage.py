"""Cloud Storage: buckets, objects, notifications."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...given import Given
from ...resource import State
from ...values import UNKNOWN
from .. import form
from ..api import Api
from ..policy import Member
from ..resource import Resource, Rest, last

# what a rule of a lifecycle says only to the provider: whether 0 is a limit or none
_SENT_IF_ZERO = {
    "age": "send_age_if_zero",
    "days_since_custom_time": "send_days_since_custom_time_if_zero",
    "days_since_noncurrent_time": "send_days_since_noncurrent_time_if_zero",
    "num_newer_versions": "send_num_newer_versions_if_zero",
}
_STATES = {"LIVE": True, "ARCHIVED": False}


class NotEmpty(Exception):
    """A bucket that has objects is not deleted without force_destroy."""


class Bucket(Rest):
    type = "google_storage_bucket"
    service = "storage"
    path = "b/{name}"
    replace = (
        "custom_placement_config.data_locations",
        "enable_object_retention",
        "hierarchical_namespace",
        "location",
        "name",
        "project",
    )
    defaults = {
        "force_destroy": False,
        "retention_policy.is_locked": False,
        "soft_delete_policy.retention_duration_seconds": 604800,
        "storage_class": "STANDARD",
        **{f"lifecycle_rule.condition.{name}": False for name in _SENT_IF_ZERO.values()},
    }
    local = ("force_destroy", *(f"lifecycle_rule.condition.{name}" for name in _SENT_IF_ZERO.values()))
    apart = ("enable_object_retention",)
    left_open = ("soft_delete_policy", "versioning", "website")
    volatile = ("updated",)
    choices = {
        "lifecycle_rule.condition.with_state": ("LIVE", "ARCHIVED", "ANY"),
        # the API's
        "lifecycle_rule.action.type": ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"),
        "public_access_prevention": ("enforced", "inherited"),
    }
    # the API's
    patterns = {"name": r"(?!goog)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"}

    def create(self, api: Api, want: Given) -> State:
        query = {"project": self.project(want)}
        if want["enable_object_retention"]:
            query["enableObjectRetention"] = "true"
        made = api("POST", self.service, "b", {"name": want["name"], **self.encode(api, want)}, query)
        return {"id": made["name"], "name": made["name"]}

    def project(self, want: Given) -> str:
        if not want["project"]:
            raise LookupError("neither the resource nor the provider has a project")
        return str(want["project"])

    def read(self, api: Api, state: State) -> State | None:
        found = api("GET", self.service, f"b/{state['name']}")
        return self.decode(api, found, state) | {"project": state["project"]}

    def update(self, api: Api, want: Given, state: State) -> None:
        body, changed = self.encode(api, want), self.changed(want, state)
        # the API merges what it is given: what is to go is null
        patch = {name: body.get(name) for name in changed}
        if "labels" in changed:
            gone = set(state["effective_labels"] or {}) - set(body.get("labels", {}))
            patch["labels"] = {**body.get("labels", {}), **dict.fromkeys(gone)}
        if changed:
            api("PATCH", self.service, f"b/{state['name']}", patch)

    def delete(self, api: Api, state: State) -> None:
        while items := api("GET", self.service, f"b/{state['name']}/o", None, {"versions": "true"}).get("items"):
            if not state["force_destroy"]:
                raise NotEmpty(f"cannot delete the bucket {state['name']} without `force_destroy`: it has objects")
            for item in items:
                path = f"b/{state['name']}/o/{quote(item['name'], safe='')}"
                api("DELETE", self.service, path, None, {"generation": str(item["generation"])})
        api("DELETE", self.service, f"b/{state['name']}")

    def encode(self, api: Api, want: Given) -> dict[str, Any]:
        want.forgo("name", "project", "enable_object_retention")
        body = super().encode(api, want)
        access = {}
        if "uniformBucketLevelAccess" in body:
            access["uniformBucketLevelAccess"] = {"enabled": body.pop("uniformBucketLevelAccess")}
        if "publicAccessPrevention" in body:
            access["publicAccessPrevention"] = body.pop("publicAccessPrevention")
        if access:
            body["iamConfiguration"] = access
        if "requesterPays" in body:
            body["billing"] = {"requesterPays": body.pop("requesterPays")}
        if "lifecycleRule" in body:
            body["lifecycle"] = {"rule": [_rule(rule) for rule in body.pop("lifecycleRule")]}
        return body

    def decode(self, api: Api, found: Mapping[str, Any], state: Mapping[str, Any]) -> State:
        access = found.get("iamConfiguration", {})
        rules = [_rule_of(rule) for rule in found.get("lifecycle", {}).get("rule", [])]
        flat = {**found, "lifecycleRule": rules, "requesterPays": found.get("billing", {}).get("requesterPays")}
        return super().decode(api, flat, state) | {
            "id": found["name"],
            "enable_object_retention": found.get("objectRetention", {}).get("mode") == "Enabled",
            "uniform_bucket_level_access": access.get("uniformBucketLevelAccess", {}).get("enabled", False),
            "public_access_prevention": access.get("publicAccessPrevention", "inherited"),
            "url": f"gs://{found['name']}",
        }

    def changed(self, want: Given, state: State) -> set[str]:
        whole = {
            "lifecycleRule": "lifecycle",
            "publicAccessPrevention": "iamConfiguration",
            "requesterPays": "billing",
            "uniformBucketLevelAccess": "iamConfiguration",
        }
        return {whole.get(name, name) for name in super().changed(want, state)}

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path == "location" and one and other:
            return bool(one.upper() == other.upper())
        return super().same(path, one, other)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as the API has it: zeros only where they are meant."""
    condition = dict(rule["condition"])
    for name, flag in _SENT_IF_ZERO.items():
        if not condition.pop(form.camel(flag), False) and not condition.get(form.camel(name)):
            condition.pop(form.camel(name), None)
    state = condition.pop("withState", None)
    if state in _STATES:
        condition["isLive"] = _STATES[state]
    return {"action": rule["action"], "condition": condition}


def _rule_of(rule: Mapping[str, Any]) -> dict[str, Any]:
    condition = dict(rule["condition"])
    live = condition.pop("isLive", None)
    condition["withState"] = "ANY" if live is None else "LIVE" if live else "ARCHIVED"
    return {"action": rule["action"], "condition": condition}


class Object(Resource):
    type = "google_storage_bucket_object"
    replace = (
        "bucket",
        "cache_control",
        "content_disposition",
        "content_encoding",
        "content_language",
        "content_type",
        "force_empty_content_type",
        "kms_key_name",
        "metadata",
        "name",
        "source",
        "storage_class",
    )
    # the content itself is told by its hash
    kept = ("content", "deletion_policy", "source", "source_md5hash")
    # the real default is "different hash", which stands for the hash of what is to be uploaded
    defaults = {"detect_md5hash": None}
    choices = {"deletion_policy": ("ABANDON",)}
    alternatives = (("content", "source"),)

    def plan(self, api: Api, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        planned["content"] = config.get("content")
        digest = _digest_of(config)
        before = None if prior is None else prior["md5hash"]
        if config.get("detect_md5hash") is None:
            planned["detect_md5hash"] = digest or before
        if prior is None or digest not in (None, before) or planned["source_md5hash"] != prior["source_md5hash"]:
            for name in ("crc32c", "generation", "md5hash", "md5hexhash", "media_link"):
                planned[name] = UNKNOWN

    def create(self, api: Api, want: Given) -> State:
        self._upload(api, want)
        return {}

    def update(self, api: Api, want: Given, state: State) -> None:
        path = _object(state)
        held = {form.camel(name): bool(want[name]) for name in ("event_based_hold", "temporary_hold")}
        if want["md5hash"] is None:
            self._upload(api, want)
        elif any(held[form.camel(name)] != bool(state[name]) for name in ("event_based_hold", "temporary_hold")):
            api("PATCH", "storage", path, held)

    def read(self, api: Api, state: State) -> State | None:
        found = api("GET", "storage", _object(state))
        return form.decode(self.block, found, {}) | {
            "id": f"{state['bucket']}-{found['name']}",
            "bucket": state["bucket"],
            "output_name": found["name"],
            "md5hexhash": base64.b64decode(found["md5Hash"]).hex(),
            "md5hash": found["md5Hash"],
            "detect_md5hash": found["md5Hash"],
            "customer_encryption": [],
        }

    def delete(self, api: Api, state: State) -> None:
        if state["deletion_policy"] != "ABANDON":
            api("DELETE", "storage", _object(state))

    def _upload(self, api: Api, want: Given) -> None:
        want.forgo("detect_md5hash", "source_md5hash", "deletion_policy", "timeouts")
        described = (
            "cache_control",
            "content_disposition",
            "content_encoding",
            "content_language",
            "content_type",
            "event_based_hold",
            "kms_key_name",
            "metadata",
            "storage_class",
            "temporary_hold",
        )
        about = {form.camel(name): want[name] for name in described if want[name] is not None}
        content = Path(want["source"]).read_bytes() if want["source"] else (want["content"] or "").encode()
        about.setdefault("contentType", _content_type(content))
        boundary = secrets.token_hex(16)
        parts = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(about)}\r\n".encode(),
            f"--{boundary}\r\nContent-Type: {about['contentType']}\r\n\r\n".encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        )
        query = {"uploadType": "multipart", "name": want["name"]}
        url = api.url("storage", f"/upload/storage/v1/b/{want['bucket']}/o", query)
        api.send("POST", url, b"".join(parts), f"multipart/related; boundary={boundary}")


def _object(state: Mapping[str, Any]) -> str:
    return f"b/{state['bucket']}/o/{quote(state['name'], safe='')}"


def _digest_of(config: Mapping[str, Any]) -> Any:
    """The MD5 of the content in Base64, as Cloud Storage tells it; None where a file is no more: its object stays."""
    source, content = config.get("source"), config.get("content")
    if UNKNOWN in (source, content):
        return UNKNOWN
    if source is None:
        found = str(content).encode()
    elif Path(source).exists():
        found = Path(source).read_bytes()
    else:
        return None
    return base64.b64encode(hashlib.md5(found, usedforsecurity=False).digest()).decode()


def _content_type(content: bytes) -> str:
    """What Go's client takes it for, as far as it matters here."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return "application/zip" if content.startswith(b"PK\x03\x04") else "application/octet-stream"
    return "text/plain; charset=utf-8"


class Notification(Resource):
    type = "google_storage_notification"
    replace = ("bucket", "custom_attributes", "event_types", "object_name_prefix", "payload_format", "topic")
    choices = {
        "payload_format": ("JSON_API_V1", "NONE"),
        # the API's
        "event_types": ("OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE"),
    }

    def create(self, api: Api, want: Given) -> State:
        words = ("custom_attributes", "event_types", "object_name_prefix", "payload_format")
        body = {form.api_name(name, _SNAKE): want[name] for name in words if want[name]}
        body["topic"] = _topic(api, want["topic"])
        made = api("POST", "storage", f"b/{want['bucket']}/notificationConfigs", body)
        return {"id": f"{want['bucket']}/notificationConfigs/{made['id']}"}

    def read(self, api: Api, state: State) -> State | None:
        bucket, _, number = state["id"].split("/")
        found = api("GET", "storage", f"b/{bucket}/notificationConfigs/{number}")
        return form.decode(self.block, found, _SNAKE) | {
            "id": state["id"],
            "bucket": bucket,
            "notification_id": number,
        }

    def delete(self, api: Api, state: State) -> None:
        api("DELETE", "storage", f"b/{state['id']}")

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path == "topic" and one and other:
            return last(one) == last(other)
        return super().same(path, one, other)


# the one object of the JSON API whose names are in snake case
_SNAKE = {name: name for name in ("custom_attributes", "event_types", "object_name_prefix", "payload_format")}


def _topic(api: Api, name: str) -> str:
    path = name.removeprefix("//pubsub.googleapis.com/")
    return f"//pubsub.googleapis.com/{path if '/' in path else f'projects/{api.project}/topics/{path}'}"


class BucketMember(Member):
    type = "google_storage_bucket_iam_member"
    service = "storage"
    path = "b/{bucket}"

    def read_policy(self, api: Api, path: str) -> dict[str, Any]:
        return api("GET", self.service, f"{path}/iam", None, {"optionsRequestedPolicyVersion": "3"})

    def write_policy(self, api: Api, path: str, policy: Mapping[str, Any]) -> None:
        api("PUT", self.service, f"{path}/iam", policy)
