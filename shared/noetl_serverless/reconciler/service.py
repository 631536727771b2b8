"""The reconciler as a function: POST / waits for a pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..telemetry.http import EXCEPTION_HANDLERS, middleware
from ..telemetry.probes import probe_routes
from .passes import Passes

Close = Callable[[], Awaitable[None]]
# a message of a host's own services; what is larger is none
MAX_BODY_BYTES = 1024 * 1024


async def _no_message(body: bytes) -> None:
    return


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        if len(content) <= MAX_BODY_BYTES:
            content += chunk
    return bytes(content) if len(content) <= MAX_BODY_BYTES else b""


def create_app(
    passes: Passes,
    *,
    checks: Mapping[str, Callable[[], Awaitable[object]]],
    close: Close,
    authenticate: Callable[[Request], None] = lambda request: None,
    on_message: Callable[[bytes], Awaitable[object]] = _no_message,
) -> Starlette:
    """`authenticate` raises Unauthenticated or Forbidden; by default the host has done it. `on_message` is given the
    body of each request before its pass, and raises if it could not record what the body says: it is then sent
    again."""

    async def reconcile(request: Request) -> Response:
        authenticate(request)
        await on_message(await _body(request))
        return JSONResponse({"status": "done", "done": await passes.run()})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await close()

    return Starlette(
        routes=[Route("/", reconcile, methods=["POST"]), *probe_routes(checks)],
        middleware=middleware(),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
