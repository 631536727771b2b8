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


def create_app(
    passes: Passes,
    *,
    checks: Mapping[str, Callable[[], Awaitable[object]]],
    close: Close,
    authenticate: Callable[[Request], None] = lambda request: None,
) -> Starlette:
    """`authenticate` raises Unauthenticated or Forbidden; by default the host has done it."""

    async def reconcile(request: Request) -> Response:
        authenticate(request)
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
