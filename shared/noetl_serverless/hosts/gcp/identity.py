"""Who calls a function, for its log: Google has checked the caller's ID token before the function sees it."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ...telemetry.logs import log_context
from .metadata import claims_of

# an e-mail address has no more
MAX_CHARACTERS = 254


class NamedCallers:
    """Around the app of a function that only named callers may invoke: a public one has callers whose tokens nobody has
    checked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with log_context(**caller_of(Headers(scope=scope))):
            await self._app(scope, receive, send)


def caller_of(headers: Headers) -> dict[str, str]:
    """The known values, by their names in the log: `principal`, a service account's e-mail address, and `trace`."""
    fields = {
        "principal": _principal(headers),
        "trace": headers.get("x-cloud-trace-context", "").partition("/")[0],
    }
    return {name: value for name, value in fields.items() if value}


def _principal(headers: Headers) -> str:
    value = headers.get("x-serverless-authorization") or headers.get("authorization") or ""
    try:
        return str(claims_of(value.partition(" ")[2]).get("email") or "")[:MAX_CHARACTERS]
    except ValueError:
        return ""
