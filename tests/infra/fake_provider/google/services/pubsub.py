"""Pub/Sub."""

from __future__ import annotations

from typing import Any

from ...given import Given
from ...resource import State
from ..api import Api
from ..policy import Member
from ..resource import Rest, last, variables

# the API's: 3 to 255 characters, and none of Google's own
_NAME = r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}"


class _Put(Rest):
    """Created with PUT under its name; a change is wrapped, with what it is about."""

    service = "pubsub"
    kind: str

    def create(self, api: Api, want: Given) -> State:
        key = self.key({name: want[name] for name in variables(self.path)})
        api("PUT", self.service, key, self.encode(api, want))
        return {"id": key}

    def patch(self, api: Api, key: str, body: dict[str, Any], mask: str) -> dict[str, Any]:
        return api("PATCH", self.service, key, {self.kind: body, "updateMask": mask})


class Topic(_Put):
    type = "google_pubsub_topic"
    kind = "topic"
    path = "projects/{project}/topics/{name}"
    replace = ("name", "project")
    defaults = {"message_transforms.disabled": False, "schema_settings.encoding": "ENCODING_UNSPECIFIED"}
    left_open = ("message_storage_policy",)
    choices = {"schema_settings.encoding": ("ENCODING_UNSPECIFIED", "JSON", "BINARY")}
    patterns = {"name": _NAME}


class Subscription(_Put):
    type = "google_pubsub_subscription"
    kind = "subscription"
    path = "projects/{project}/subscriptions/{name}"
    replace = ("enable_message_ordering", "filter", "name", "project", "topic")
    defaults = {
        "cloud_storage_config.max_duration": "300s",
        "message_retention_duration": "604800s",
        "message_transforms.disabled": False,
    }
    left_open = ("expiration_policy",)
    durations = ("expiration_policy.ttl", "retry_policy.maximum_backoff", "retry_policy.minimum_backoff")
    patterns = {"name": _NAME, "filter": r"[\s\S]{0,256}"}

    def encode(self, api: Api, want: Given) -> dict[str, Any]:
        body = super().encode(api, want)
        body["topic"] = _topic_of(api, body["topic"])
        return body

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path == "topic" and one and other:
            return bool(one in (other, last(other)))
        if path == "push_config.attributes" and other is not None:
            # the API adds one of its own
            return {key: text for key, text in other.items() if key != "x-goog-version"} == (one or {})
        return super().same(path, one, other)


class TopicMember(Member):
    type = "google_pubsub_topic_iam_member"
    service = "pubsub"
    path = "projects/{project}/topics/{topic}"


class SubscriptionMember(Member):
    type = "google_pubsub_subscription_iam_member"
    service = "pubsub"
    path = "projects/{project}/subscriptions/{subscription}"


def _topic_of(api: Api, name: str) -> str:
    return name if "/" in name else f"projects/{api.project}/topics/{name}"
