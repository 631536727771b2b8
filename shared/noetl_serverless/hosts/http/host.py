"""How long a request may still run."""

from __future__ import annotations

import time
from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send


class HttpHost:
    """`seconds`: what each request is given. An HTTP server is not told how much of it is left, so that counts from the
    request's beginning where the app is `timed`; otherwise it never gets less."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: ContextVar[float | None] = ContextVar("noetl_request_deadline", default=None)

    def remaining(self) -> float:
        deadline = self._deadline.get()
        return self._seconds if deadline is None else max(0.0, deadline - time.monotonic())

    def timed(self, app: ASGIApp) -> ASGIApp:
        async def timed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self._deadline.set(time.monotonic() + self._seconds)
            await app(scope, receive, send)

        return timed
