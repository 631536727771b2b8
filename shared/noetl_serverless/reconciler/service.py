"""The reconciler as a function: POST / does one pass."""

from __future__ import annotations

import asyncio
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


def create_app(
    passes: Passes,
    *,
    checks: Mapping[str, Callable[[], Awaitable[object]]],
    close: Close,
    authenticate: Callable[[Request], None] = lambda request: None,
) -> Starlette:
    """`authenticate` raises Unauthenticated or Forbidden; by default the host has done it."""
    pass_lock = asyncio.Lock()

    async def reconcile(request: Request) -> Response:
        authenticate(request)
        if pass_lock.locked():
            # the pass under way handles what this one would
            return JSONResponse({"status": "busy"}, 202)
        async with pass_lock:
            done = await passes.run()
        return JSONResponse({"status": "done", "done": done})

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
