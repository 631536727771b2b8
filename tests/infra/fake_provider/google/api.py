"""Requests to Google's APIs: REST and JSON, at the endpoints of the provider's configuration."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin

import urllib3

# seconds
PATIENCE = 1800
_SOONEST, _LATEST = 0.05, 1.0


class ApiError(Exception):
    """An answer that is no success: `status` is HTTP's, `reason` the API's word for it."""

    def __init__(self, request: str, status: int, body: bytes) -> None:
        try:
            error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            error = {"message": body.decode(errors="replace")}
        self.status = status
        self.reason = str(error.get("status", ""))
        super().__init__(f"{request}: {status} {self.reason} {error.get('message', '')}".replace("  ", " "))


class OperationFailed(Exception):
    """A long-running operation that ended with an error."""


class NoEndpoint(Exception):
    """The provider's configuration gives no endpoint for a service."""


class Api:
    """One call is one request. `service` is the name in the provider's argument: cloud_tasks."""

    def __init__(
        self,
        *,
        project: str | None,
        region: str | None,
        endpoints: Mapping[str, str],
        token: str,
        labels: Mapping[str, str],
        attributed: bool,
    ) -> None:
        """`labels` are those of the provider, for whatever can have labels; `attributed` says whether it marks what it
        makes with a label of its own."""
        self.project = project
        self.region = region
        self.labels = labels
        self.attributed = attributed
        self._endpoints = endpoints
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=urllib3.Timeout(PATIENCE))
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def __call__(
        self,
        method: str,
        service: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """ApiError if it is refused."""
        content = None if body is None else json.dumps(body).encode()
        return self.send(method, self.url(service, path, query), content, "application/json")

    def send(self, method: str, url: str, content: bytes | None, content_type: str) -> dict[str, Any]:
        headers = self._headers | ({} if content is None else {"Content-Type": content_type})
        answer = self._pool.request(method, url, body=content, headers=headers, redirect=False)
        if answer.status >= 300:
            raise ApiError(f"{method} {url}", answer.status, answer.data)
        return dict(json.loads(answer.data)) if answer.data else {}

    def url(self, service: str, path: str, query: Mapping[str, str] | None = None) -> str:
        """`path` is relative to the endpoint, or from its root if it begins with a slash."""
        if service not in self._endpoints:
            raise NoEndpoint(f"the provider's configuration has no {service}_custom_endpoint")
        return urljoin(self._endpoints[service], path) + (f"?{urlencode(query)}" if query else "")

    def finish(self, service: str, operation: Mapping[str, Any]) -> None:
        """Waits for a long-running operation. OperationFailed says what became of it."""
        pause, until = _SOONEST, time.monotonic() + PATIENCE
        while not operation.get("done"):
            if time.monotonic() > until:
                raise OperationFailed(f"{operation['name']} still runs after {PATIENCE} s")
            time.sleep(pause)
            pause = min(2 * pause, _LATEST)
            operation = self("GET", service, operation["name"])
        if "error" in operation:
            raise OperationFailed(f"{operation['name']}: {operation['error'].get('message', operation['error'])}")

    def alone(self, what: str) -> threading.Lock:
        """The lock on something that is read, changed and written back."""
        with self._guard:
            return self._locks.setdefault(what, threading.Lock())
