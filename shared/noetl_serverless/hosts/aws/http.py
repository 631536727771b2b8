"""An ASGI app behind an HTTP API, a function URL, or a direct invocation in their shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from starlette.types import ASGIApp

from ...telemetry.logs import log_context
from .host import Context, LambdaHost
from .identity import caller_of
from .loop import event_loop

# media types that are sent as text; all others are sent as base64
_TEXT = ["text/", "application/json", "application/problem+json", "application/graphql-response+json"]

Handler = Callable[[dict[str, Any], Context], dict[str, Any]]


def is_http(event: Any) -> bool:
    return isinstance(event, dict) and "requestContext" in event and "version" in event


def http_handler(app: ASGIApp, host: LambdaHost) -> Handler:
    """The app's lifespan is not used: a function is not notified before its process ends."""
    from mangum import Mangum

    event_loop()
    adapter = Mangum(
        cast(Any, app), lifespan="off", exclude_headers=["content-length", "connection"], text_mime_types=_TEXT
    )

    def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
        host.start_invocation(context)
        event_loop()
        with log_context(**caller_of(event, context).log()):
            return adapter(event, cast(Any, context))

    return handler
