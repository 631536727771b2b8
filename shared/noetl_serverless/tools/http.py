"""kind: http. One request over HTTP, redirects included."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import takewhile
from typing import IO, Any, ClassVar

from ..tables.collect import collect
from .http_auth import CREDENTIALS, Authorization, authorize
from .http_config import ROWS, HttpConfig
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome


class Http:
    config: ClassVar[type[HttpConfig]] = HttpConfig
    takes_tables: ClassVar[bool] = True
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
        rows_as = config.as_ if config.as_ in ROWS else None
        if rows_as is not None and find_spec("pyarrow") is None:
            message = f"'as: {rows_as}' requires pyarrow, which this worker lacks: run the step in a pool that has it"
            raise ToolFailure("http", "tool.unavailable", message)
        try:
            async with asyncio.timeout(limits.total):
                with _file(context) if rows_as is not None else nullcontext(None) as file:
                    answer = await client.fetch(request, limits, file)
                    data = {
                        "status_code": answer.status,
                        "headers": answer.headers,
                        "url": auth.mask(answer.url) if auth.params else answer.url,
                        "elapsed": round(time.perf_counter() - started, 6),
                    }
                    if answer.status >= 400:
                        data |= answer.content()
                    elif rows_as is None:
                        data |= answer.content(config.as_)
                    else:
                        data = await _rows(rows_as, file, answer.charset, data, context)
        except TimeoutError:
            raise ToolFailure(
                "http", "http.timeout", f"{request.title} took longer than {limits.total:g} s", retryable=True
            ) from None
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


def _file(context: ToolContext) -> IO[bytes]:
    """One without a name, for the response."""
    context.scratch.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=context.scratch)


async def _rows(format: Any, file: Any, charset: str, answer: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    """The result whose data are the rows of the response in `file`. Raises ToolFailure."""
    from .http_rows import Malformed, read

    ended = threading.Event()

    def collected(schema: Any, batches: Iterable[Any]) -> dict[str, Any]:
        names = schema.names
        return collect(
            schema,
            takewhile(lambda batch: not ended.is_set(), batches),
            context.files,
            inline_bytes=context.inline_bytes,
            field="data",
            rest=lambda count: {**answer, "data": None, "row_count": count, "columns": names},
        )

    # the file may be closed only when nothing reads it any more
    reading = asyncio.ensure_future(asyncio.to_thread(read, format, file, charset, collected))
    try:
        found: dict[str, Any] = await asyncio.shield(reading)
    except asyncio.CancelledError:
        ended.set()
        await asyncio.wait((reading,))
        raise
    except Malformed as error:
        raise ToolFailure("http", "http.content", f"the response is not what 'as: {format}' says: {error}") from None
    except OSError as error:
        raise ToolFailure("http", "http.too_large", f"no room for the rows: {error}", retryable=True) from None
    return {name: found[name] for name in (*answer, "data", "row_count", "columns")}


def _masked(value: Any, auth: Authorization) -> Any:
    if isinstance(value, str):
        return auth.mask(value)
    if isinstance(value, dict):
        return {key: _masked(item, auth) for key, item in value.items()}
    return [_masked(item, auth) for item in value] if isinstance(value, list) else value
