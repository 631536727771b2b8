"""kind: http. One request over HTTP, redirects included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from .http_auth import CREDENTIALS, Authorization, authorize
from .http_config import HttpConfig
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome


class Http:
    config: ClassVar[type[HttpConfig]] = HttpConfig
    credentials: ClassVar[Mapping[str, frozenset[str]]] = CREDENTIALS

    def __init__(self) -> None:
        # one client per policy; a client belongs to the event loop it was made on
        self._clients: dict[bool, Any] = {}

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        auth = Authorization()
        try:
            config = HttpConfig.of(call)
            auth = await authorize(config.auth, context)
            return await self._send(config, auth, call, context)
        except ToolFailure as failure:
            failure.error["message"] = auth.mask(failure.error["message"])
            return failure.outcome()

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    async def _send(self, config: HttpConfig, auth: Authorization, call: ToolCall, context: ToolContext) -> ToolOutcome:
        from .http_client import Client, request_of

        client = self._clients.get(context.allow_private_http)
        if client is None or not client.usable:
            client = self._clients[context.allow_private_http] = Client(context.allow_private_http)
        started = time.perf_counter()
        request = request_of(config, auth, context.idempotency_key)
        limits = config.limits(call.timeout)
        try:
            async with asyncio.timeout(limits.total):
                answer = await client.fetch(request, limits)
        except TimeoutError:
            raise ToolFailure(
                "http", "http.timeout", f"{request.title} took longer than {limits.total:g} s", retryable=True
            ) from None
        data = {
            "status_code": answer.status,
            "headers": answer.headers,
            "url": auth.mask(answer.url) if auth.params else answer.url,
            "elapsed": round(time.perf_counter() - started, 6),
            **answer.content(),
        }
        extra = {"http": {"status": answer.status, "headers": answer.headers}}
        if answer.status < 400:
            return ToolOutcome("ok", data=data, extra=extra)
        error = {
            "kind": "http",
            "code": "http.status",
            "status_code": answer.status,
            "retryable": answer.status in (408, 429) or answer.status >= 500,
            "message": auth.mask(f"{request.title} answered {answer.status} {answer.reason}{answer.excerpt()}"),
        }
        # a server may send back the credentials that it received; what succeeds is masked by the worker
        return ToolOutcome("error", data=_masked(data, auth), error=error, extra=_masked(extra, auth))


def _masked(value: Any, auth: Authorization) -> Any:
    if isinstance(value, str):
        return auth.mask(value)
    if isinstance(value, dict):
        return {key: _masked(item, auth) for key, item in value.items()}
    return [_masked(item, auth) for item in value] if isinstance(value, list) else value
