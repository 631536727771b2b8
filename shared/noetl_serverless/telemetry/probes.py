"""/livez: the process answers. /readyz: so do the parts it needs. /metrics: for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import metrics

Check = Callable[[], Awaitable[object]]
PATHS = frozenset({"/livez", "/readyz", "/metrics"})


def probe_routes(
    checks: Mapping[str, Check], facts: Mapping[str, str] | None = None, *, timeout: float = 2.0
) -> list[Route]:
    """`checks` by name; one that raises, or takes longer than `timeout` seconds, makes /readyz answer 503. `facts`:
    what it says besides."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = await asyncio.gather(*(_run(check, timeout) for check in checks.values()))
        ready = all(result == "ok" for result in found)
        body = {"status": "ok" if ready else "unavailable", "checks": dict(zip(checks, found, strict=True))}
        return JSONResponse({**body, **(facts or {})}, status_code=200 if ready else 503)

    async def show_metrics(request: Request) -> Response:
        text, media_type = metrics.render()
        return Response(text, headers={"content-type": media_type})

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", show_metrics)]


async def _run(check: Check, timeout: float) -> str:
    try:
        async with asyncio.timeout(timeout):
            await check()
    except TimeoutError:
        return "timeout"
    except Exception as error:  # whatever it is, the part is not ready; its text may hold a secret
        return type(error).__name__
    return "ok"
