"""The worker as an ASGI app: an endpoint for notifications, which start a drain, and the probes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import InvalidRequest, Problem
from ..ports import Host, Invoker
from ..protocol import CommandKey
from ..telemetry.http import EXCEPTION_HANDLERS, middleware
from ..telemetry.presence import ALONE_AFTER_SECONDS
from ..telemetry.probes import Check, probe_routes
from .worker import Worker

logger = logging.getLogger(__name__)

# given the Authorization header, raises Unauthenticated or Forbidden
Authorise = Callable[[str | None], None]

MAX_BODY_BYTES = 64 * 1024
# delay of the next invocation, when a drain left work behind and claimed none
PAUSE_SECONDS = 2.0
# the limit of one claim
MAX_NAMED_COMMANDS = 1000


def make_app(
    worker: Worker,
    host: Host,
    *,
    invoker: Invoker | None = None,
    authorise: Authorise | None = None,
    checks: Mapping[str, Check] | None = None,
    close: Callable[[], Any] | None = None,
    runs_after_response: bool = True,
) -> Starlette:
    """`invoker`: invokes this pool again when a drain leaves work behind. `close`: awaited at the end, after the worker
    has closed its client and its python processes. `runs_after_response`: whether work may continue after the
    response."""
    notifications = NotificationReceiver(worker, host, invoker, authorise, runs_after_response=runs_after_response)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker.start_python()
        showing = asyncio.create_task(worker.keep_showing("ready")) if runs_after_response else None
        try:
            yield
        finally:
            if showing is not None:
                showing.cancel()
            await notifications.close()
            await worker.close()
            if close is not None:
                await close()

    return Starlette(
        routes=[
            Route("/", notifications.receive, methods=["POST"]),
            *probe_routes(checks if checks is not None else {"control_plane": worker.client.check}, worker.facts),
        ],
        middleware=middleware(),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


class NotificationReceiver:
    def __init__(
        self,
        worker: Worker,
        host: Host,
        invoker: Invoker | None,
        authorise: Authorise | None,
        *,
        runs_after_response: bool = False,
    ) -> None:
        self._worker = worker
        self._host = host
        self._invoker = invoker
        self._authorise = authorise
        self._runs_after_response = runs_after_response
        self._drains: set[asyncio.Task[dict[str, Any]]] = set()
        self._shows: set[asyncio.Task[None]] = set()
        self._archiving: asyncio.Task[None] | None = None
        self._archive_requested = False
        worker.accept_offers(self._start_drain)

    async def receive(self, request: Request) -> Response:
        """{"sweep"?: bool, "archive"?: bool, "commands"?: [{"execution_id", "command_id"}]}; answers when the drain has
        ended, or at once if one is under way."""
        if self._authorise is not None:
            self._authorise(request.headers.get("authorization"))
        payload = await _payload(request)
        if payload.get("archive") and self._runs_after_response:
            await self.archive()
        # the drain continues even if the client disconnects
        summary = await asyncio.shield(self._start_drain([payload]))
        if payload.get("archive") and not self._runs_after_response:
            await self.archive()
        return JSONResponse(summary)

    def _start_drain(self, invocations: Sequence[Mapping[str, Any]] = ()) -> asyncio.Task[dict[str, Any]]:
        drain = asyncio.create_task(self.drain(invocations))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        return drain

    async def drain(self, invocations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Run one drain for these invocations."""
        settings = self._worker.settings
        seconds = min(self._host.remaining(), settings.time_budget)
        sweep = any(invocation.get("sweep") for invocation in invocations)
        # where nothing runs between two drains, heartbeats are those of a drain
        showing = None if self._runs_after_response else asyncio.create_task(self._show_later())
        try:
            summary = await self._worker.drain(seconds, sweep=sweep, commands=_named_commands(invocations))
        finally:
            if showing is not None:
                showing.cancel()
        if summary["status"] != "draining":
            logger.info("drained", extra={"summary": summary})
            await self._show_rest()
        if summary.get("more") and summary["status"] == "drained" and self._invoker is not None:
            await self._invoke_again(0.0 if summary["claimed"] else PAUSE_SECONDS)
        return summary

    async def _show_later(self) -> None:
        await asyncio.sleep(ALONE_AFTER_SECONDS)
        await self._worker.keep_showing("busy")

    async def _show_rest(self) -> None:
        """A row that says `busy` would look dead before long."""
        after = 0.0 if self._worker.presence.shown == "busy" else ALONE_AFTER_SECONDS
        if not self._runs_after_response:
            await self._worker.show("idle", after=after)
        elif after == 0.0:
            shown = asyncio.create_task(self._worker.show("ready"))
            self._shows.add(shown)
            shown.add_done_callback(self._shows.discard)

    async def archive(self) -> None:
        """Write pending archive batches in a separate task: the next drain must not wait for that."""
        self._archive_requested = True
        if self._archiving is None or self._archiving.done():
            self._archiving = asyncio.create_task(self._archive())
        if not self._runs_after_response:
            await asyncio.shield(self._archiving)

    async def close(self) -> None:
        """Stop archiving: another worker writes the current batch again."""
        if self._archiving is not None:
            self._archiving.cancel()
            await asyncio.gather(self._archiving, return_exceptions=True)

    async def _archive(self) -> None:
        more = False
        while self._archive_requested and not more:
            self._archive_requested = False
            seconds = min(self._host.remaining(), self._worker.settings.time_budget)
            try:
                summary = await self._worker.archive_writer.run(seconds)
            except Problem as error:
                logger.error("the archive cannot be written: %s", error)
                return
            logger.info("archived", extra={"summary": asdict(summary)})
            more = summary.more
        if more and self._invoker is not None:
            await self._invoke_again(0.0, archive=True)

    async def _invoke_again(self, delay: float, **flags: bool) -> None:
        pool = self._worker.settings.pool
        assert self._invoker is not None
        try:
            await self._invoker.invoke(pool, {"pool": pool, **flags}, delay)
        except Exception as error:
            # the reconciler invokes a worker for the remaining work
            logger.warning("could not invoke the worker again: %s", type(error).__name__)


def _named_commands(invocations: Sequence[Mapping[str, Any]]) -> list[CommandKey]:
    """The commands that the invocations name. Invalid keys are ignored, because the names are only hints."""
    keys = []
    for command in (command for invocation in invocations for command in _list(invocation.get("commands"))):
        with contextlib.suppress(ValidationError):
            keys.append(CommandKey.model_validate(command))
    return keys[:MAX_NAMED_COMMANDS]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


async def _payload(request: Request) -> dict[str, Any]:
    body = await request.body()
    if not body:
        return {}
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequest("the body of an invocation must be a small JSON object")
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise InvalidRequest("the body of an invocation must be a JSON object")
    return payload
