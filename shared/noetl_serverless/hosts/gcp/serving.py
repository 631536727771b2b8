"""A service as a Cloud Run function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import NotFound
from ...telemetry.http import problem_response
from ..assembly.service import Service
from ..http.framework import Function, serve_when_ready
from ..platform import Platform
from .identity import NamedCallers
from .platform import Results, gcp_platform

# Cloud Run kills an instance 10 s after SIGTERM
DRAIN_SECONDS = 9.0


def without_metrics(app: ASGIApp) -> ASGIApp:
    """For a function that all may call: what it measures is nobody's business, and each instance would tell its own."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/metrics":
            await problem_response(NotFound("There is nothing at this path"), scope)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guarded


def cloud_run_function(
    environ: Mapping[str, str],
    assemble: Callable[[Platform], Service],
    results: Results | None = None,
    *,
    public: bool = False,
) -> Function:
    """`assemble` makes the service of what the host provides, at the first request: the process has forked by then, and
    a new deployment may have got its secrets. `results`: see `gcp_platform`. `public`: whether all may call it, and not
    only named callers."""

    async def make() -> Service:
        platform = await gcp_platform(environ, results)
        service = assemble(platform)
        app = platform.host.timed(service.app)
        return replace(service, app=without_metrics(app) if public else NamedCallers(app))

    return serve_when_ready(make, drain_seconds=DRAIN_SECONDS)
