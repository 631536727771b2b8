"""Requests to Google's REST APIs, in the name of the function's service account."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import orjson

from ..cloud.connections import Body, Read
from ..cloud.transport import TIMEOUT_SECONDS, ApiError, Response, Transport

NOT_FOUND = "NOT_FOUND"


class GoogleError(ApiError):
    """`code` is the status that Google names: NOT_FOUND, PERMISSION_DENIED, ..."""


class Tokens(Protocol):
    async def access_token(self) -> str:
        """An OAuth token for Google's APIs; empty for an emulator that asks for none. Raises ApiError, Unavailable."""
        ...


class Api:
    """Every call is retried while the failure is transient; then GoogleError, or Unavailable if there was no answer."""

    def __init__(self, tokens: Tokens, endpoint_url: str | None = None) -> None:
        """`endpoint_url` replaces the hosts of all services: an emulator."""
        self._tokens = tokens
        self._endpoint_url = endpoint_url
        self._transport = Transport(_error)

    async def json(self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`service` is the first part of its host: cloudtasks, secretmanager; `path` is encoded already."""
        content = b"" if body is None else orjson.dumps(body)
        answer = await self.request(service, method, path, headers={"content-type": "application/json"}, body=content)
        try:
            found: dict[str, Any] = orjson.loads(answer.body) if answer.body else {}
        except orjson.JSONDecodeError as error:
            raise GoogleError(service, answer.status, "UNKNOWN", "the answer is not JSON") from error
        return found

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        timeout: float = TIMEOUT_SECONDS,
        tries: int | None = None,
        accept: Collection[int] = (),
        read: Read | None = None,
        fresh: bool = False,
    ) -> Response:
        """`path` is encoded already, and may be a URL that the service has named."""
        url = path if "://" in path else f"{self.endpoint(service)}{path}"

        async def signed() -> Mapping[str, str]:
            token = await self._tokens.access_token()
            return {**(headers or {}), **({"authorization": f"Bearer {token}"} if token else {})}

        return await self._transport.send(
            service, method, url, signed, body, timeout=timeout, tries=tries, accept=accept, read=read, fresh=fresh
        )

    def endpoint(self, service: str) -> str:
        return self._endpoint_url or f"https://{service}.googleapis.com"

    async def close(self) -> None:
        await self._transport.close()


def _error(service: str, answer: Response) -> GoogleError:
    try:
        error = orjson.loads(answer.body)["error"]
        # Cloud Storage has reasons in place of a status
        code = error.get("status") or next((one["reason"] for one in error.get("errors") or ()), "")
        return GoogleError(service, answer.status, str(code), str(error.get("message", "")))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return GoogleError(service, answer.status, "UNKNOWN", answer.body.decode(errors="replace")[:200])
