"""The gateway as an ASGI app."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette

from ..ports import KeyValue
from ..settings import Settings
from ..telemetry import http
from ..telemetry.probes import probe_routes
from . import callbacks
from .auth_routes import AuthRoutes
from .callbacks import Callbacks
from .control_plane import ControlPlane
from .graphql_route import GraphQL
from .hooks import Hooks
from .proxy import Proxy
from .sessions import Sessions
from .sign_in import SignIn, choose


def create_app(
    settings: Settings,
    *,
    keyvalue: KeyValue,
    control_plane: ControlPlane | None = None,
    sign_in: SignIn | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> Starlette:
    """`close`: awaited at the end, while the control plane can still be called. ValueError if the settings require a
    sign-in that is not allowed on this host."""
    upstream = control_plane or ControlPlane(settings.control_plane_url, settings.service_token)
    sessions = Sessions(keyvalue, settings.session_ttl)
    routes = [
        *AuthRoutes(sessions, sign_in or choose(settings)).routes(),
        *GraphQL(sessions, upstream).routes(),
        *Hooks(upstream).routes(),
        *Callbacks(upstream).routes(),
        *Proxy(sessions, upstream).routes(),
        *probe_routes({"sessions": lambda: keyvalue.get("ready"), "control_plane": upstream.check}),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if close is not None:
            await close()
        await upstream.close()

    return Starlette(
        routes=routes,
        middleware=http.middleware(logging.INFO, secret_below=callbacks.PATH),
        exception_handlers=http.EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
