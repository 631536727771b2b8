"""The control plane: HTTP through an API or by direct invocation, and the deployment's migrations and rotations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ....settings import Settings
from ....store.migrate import migrate
from ...assembly.control_plane import control_plane
from ..account import Account
from ..api import Api
from ..configuration import MissingSecret
from ..host import Context
from ..http import Handler, http_handler, is_http
from ..loop import run
from ..platform import aws_platform, database_url_of
from ..provision import provision
from ..rotation import is_rotation, rotate
from ..secrets import SecretsManager

_log = logging.getLogger(__name__)

# exactly this event, which only a direct invocation can send: an HTTP request is wrapped in another event
MIGRATE = {"noetl": "migrate"}


class ControlPlaneHandler:
    """Starts without its secrets, too: a new deployment has none before it is migrated."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._http: Handler | None = None
        try:
            self._build()
        except MissingSecret as error:
            _log.warning("not ready yet: %s", error)

    def __call__(self, event: Any, context: Context) -> Any:
        """ValueError for an event that is not one of ours; MissingSecret before the first migration."""
        if is_http(event):
            return self._build()(event, context)
        if event == MIGRATE:
            return run(self._migrate())
        if is_rotation(event):
            settings = Settings.from_environment(self._environ)
            key = settings.secrets.get("token_key", "")
            return run(rotate(event, self._api(), key, settings.provision, settings.token_days))
        raise ValueError("the control plane accepts only HTTP requests, migrations and rotations")

    def _build(self) -> Handler:
        if self._http is None:
            platform = aws_platform(self._environ)
            self._http = http_handler(control_plane(platform).app, platform.host)
        return self._http

    async def _migrate(self) -> dict[str, list[str]]:
        """Create the secrets that have no value yet, then migrate the database to this version."""
        settings = Settings.from_environment(self._environ)
        api = self._api()
        created = await provision(api, settings.provision, settings.token_days)
        url = database_url_of(settings, api.account, SecretsManager(api, settings.secrets))
        applied = await asyncio.to_thread(lambda: migrate(url if isinstance(url, str) else url()))
        return {"secrets": created, "migrations": applied}

    def _api(self) -> Api:
        return Api(Account.of(self._environ))
