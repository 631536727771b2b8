"""The control plane: HTTP through an API or by direct invocation, and the deployment's migrations and rotations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ....settings import Settings
from ...assembly.control_plane import control_plane
from ...cloud.configuration import MissingSecret
from ...cloud.migration import migrate_deployment
from ...cloud.provision import DATABASE_ROLE, TOKEN_PREFIX
from ...cloud.secrets import CachedSecrets
from ..account import Account
from ..api import Api
from ..host import Context
from ..http import Handler, http_handler, is_http
from ..loop import run
from ..platform import aws_platform, database_url_of
from ..rotation import RolePassword, Token, is_rotation, rotate
from ..secrets import SecretsManagerVault

_log = logging.getLogger(__name__)

# exactly this event, which only a direct invocation can send: an HTTP request is wrapped in another event
MIGRATE = {"noetl": "migrate"}


def entry_point(environ: Mapping[str, str]) -> ControlPlaneHandler:
    return ControlPlaneHandler(environ)


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
            return run(self._rotate(event))
        raise ValueError("the control plane accepts only HTTP requests, migrations and rotations")

    def _build(self) -> Handler:
        if self._http is None:
            platform = aws_platform(self._environ)
            self._http = http_handler(control_plane(platform).app, platform.host)
        return self._http

    async def _migrate(self) -> dict[str, list[str]]:
        settings = Settings.from_environment(self._environ)
        api = self._api()
        return await migrate_deployment(settings, SecretsManagerVault(api), self._owner_url(settings, api))

    async def _rotate(self, event: Mapping[str, str]) -> dict[str, str]:
        """ValueError for a secret that cannot be rotated like this: keys seal and sign what is stored."""
        settings = Settings.from_environment(self._environ)
        api = self._api()
        name = next((name for name, id in settings.provision.items() if id == event["SecretId"]), "")
        if name.startswith(TOKEN_PREFIX):
            key_id = settings.secrets.get("token_key", "")
            await rotate(event, api, Token(name.removeprefix(TOKEN_PREFIX), api, key_id, settings.token_days))
        elif name.startswith(DATABASE_ROLE):
            role = name.removeprefix(DATABASE_ROLE)
            await rotate(event, api, RolePassword(role, self._owner_url(settings, api)))
        else:
            raise ValueError("only service tokens and passwords of database roles are rotated")
        return {"secret": name, "step": event["Step"]}

    def _owner_url(self, settings: Settings, api: Api) -> str | Callable[[], str]:
        return database_url_of(
            settings, api.account, CachedSecrets(SecretsManagerVault(api), settings.secrets, ttl=0.0)
        )

    def _api(self) -> Api:
        return Api(Account.of(self._environ))
