"""Requests to Google's REST APIs, in the name of the function's service account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ..cloud.transport import ApiError, Response, Transport
from .metadata import Metadata

NOT_FOUND = "NOT_FOUND"


class GoogleError(ApiError):
    """`code` is the status that Google names: NOT_FOUND, PERMISSION_DENIED, ..."""


class Api:
    """Every call is retried while the failure is transient; then GoogleError, or Unavailable if there was no answer."""

    def __init__(self, metadata: Metadata, endpoint_url: str | None = None) -> None:
        """`endpoint_url` replaces the hosts of all services: an emulator."""
        self._metadata = metadata
        self._endpoint_url = endpoint_url
        self._transport = Transport(_error)

    async def json(self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`service` is the first part of its host: cloudtasks, secretmanager; `path` is encoded already."""
        url = f"{self._endpoint_url or f'https://{service}.googleapis.com'}{path}"
        content = b"" if body is None else orjson.dumps(body)

        async def headers() -> Mapping[str, str]:
            return {
                "authorization": f"Bearer {await self._metadata.access_token()}",
                "content-type": "application/json",
            }

        answer = await self._transport.send(service, method, url, headers, content)
        try:
            found: dict[str, Any] = orjson.loads(answer.body) if answer.body else {}
        except orjson.JSONDecodeError as error:
            raise GoogleError(service, answer.status, "UNKNOWN", "the answer is not JSON") from error
        return found

    async def close(self) -> None:
        await self._transport.close()


def _error(service: str, answer: Response) -> GoogleError:
    try:
        error = orjson.loads(answer.body)["error"]
        return GoogleError(service, answer.status, str(error.get("status", "")), str(error.get("message", "")))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return GoogleError(service, answer.status, "UNKNOWN", answer.body.decode(errors="replace")[:200])
