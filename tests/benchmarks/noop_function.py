"""The least that the Functions Framework can serve: a floor for HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response


async def noop(request: Request) -> Response:
    return Response(b"{}", media_type="application/json")
