"""The migration of a deployment, which only its operators may call: a POST brings it to this release."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ....settings import Settings
from ....telemetry import logs
from ....telemetry.http import EXCEPTION_HANDLERS, middleware
from ....telemetry.probes import probe_routes
from ...assembly.service import Service
from ...cloud.database import database_url_of
from ...cloud.migration import migrate_deployment
from ...cloud.secrets import CachedSecrets
from ...http.framework import Function, serve_when_ready
from ..google import Google
from ..identity import NamedCallers
from ..secrets import SecretManagerVault
from ..serving import DRAIN_SECONDS


def entry_point(environ: Mapping[str, str]) -> Function:
    async def make() -> Service:
        return _service(environ)

    return serve_when_ready(make, drain_seconds=DRAIN_SECONDS)


def _service(environ: Mapping[str, str]) -> Service:
    settings = Settings.from_environment(environ)
    logs.setup("migration", settings.log_level)
    google = Google.of(environ)
    vault = SecretManagerVault(google.api)
    secrets = CachedSecrets(vault, settings.secrets, ttl=0.0)
    url = database_url_of(settings, secrets, asyncio.get_running_loop())

    async def migrate(request: Request) -> Response:
        # it goes on if the caller does not wait for its end
        return JSONResponse(await asyncio.shield(migrate_deployment(settings, vault, url)))

    app = Starlette(
        routes=[Route("/", migrate, methods=["POST"]), *probe_routes({})],
        middleware=middleware(),
        exception_handlers=EXCEPTION_HANDLERS,
    )
    return Service(NamedCallers(app), (google.api.close,))
