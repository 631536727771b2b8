"""Cloud Scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...given import Given
from ...resource import State
from ..api import Api
from ..resource import Rest

_TARGETS = ("pubsub_target", "http_target", "app_engine_http_target")
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"


class Job(Rest):
    type = "google_cloud_scheduler_job"
    service = "cloud_scheduler"
    path = "projects/{project}/locations/{region}/jobs/{name}"
    # the real provider sends the whole job without a mask
    masked = False
    replace = ("name", "project", "region")
    defaults = {"attempt_deadline": "180s", "time_zone": "Etc/UTC"}
    apart = ("paused",)
    volatile = ("state",)
    # what the API takes where nothing is given is told as if it were given
    left_open = ("http_target.oauth_token.scope", "http_target.oidc_token.audience", "retry_config")
    alternatives = (_TARGETS,)
    patterns = {
        # the API's
        "name": r"[A-Za-z0-9_-]{1,500}",
        "attempt_deadline": r"[0-9]+(?:\.[0-9]{1,9})?s",
        "http_target.body": _BASE64,
        "pubsub_target.data": _BASE64,
        "app_engine_http_target.body": _BASE64,
    }

    def create(self, api: Api, want: Given) -> State:
        key = super().create(api, want)
        self._pause_or_resume(api, key["id"], bool(want["paused"]))
        return key

    def update(self, api: Api, want: Given, state: State) -> None:
        super().update(api, want, state)
        if bool(want["paused"]) != bool(state["paused"]):
            self._pause_or_resume(api, state["id"], bool(want["paused"]))

    def decode(self, api: Api, found: Mapping[str, Any], state: Mapping[str, Any]) -> State:
        target = found.get("httpTarget")
        if target is not None:
            found = {**found, "httpTarget": {**target, "headers": _given_headers(target.get("headers", {}))}}
        return super().decode(api, found, state) | {"paused": found.get("state") == "PAUSED"}

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path == "http_target.uri" and one and other:
            return bool(one.rstrip("/") == other.rstrip("/"))
        return super().same(path, one, other)

    def _pause_or_resume(self, api: Api, key: str, paused: bool) -> None:
        api("POST", self.service, f"{key}:{'pause' if paused else 'resume'}", {})


def _given_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Without those that the API adds."""
    added = {"User-Agent": "Google-Cloud-Scheduler", "Content-Type": "application/octet-stream"}
    return {
        name: text
        for name, text in headers.items()
        if added.get(name) != text and not name.startswith(("X-Google-", "X-AppEngine-", "Content-Length"))
    }
