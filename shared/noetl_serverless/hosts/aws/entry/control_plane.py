"""The control plane: HTTP through an API or by direct invocation, and the deployment's migrations and rotations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ....settings import Settings
from ....store.migrate import migrate
from ....store.worker_role import create_worker_role, lock_worker_role, worker_role
from ...assembly.control_plane import control_plane
from ..account import Account
from ..api import Api
from ..configuration import MissingSecret
from ..host import Context
from ..http import Handler, http_handler, is_http
from ..loop import run
from ..platform import aws_platform, database_url_of
from ..provision import DATABASE_ROLE, TOKEN_PREFIX, password_of, provision
from ..rotation import RolePassword, Token, is_rotation, rotate
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
            return run(self._rotate(event))
        raise ValueError("the control plane accepts only HTTP requests, migrations and rotations")

    def _build(self) -> Handler:
        if self._http is None:
            platform = aws_platform(self._environ)
            self._http = http_handler(control_plane(platform).app, platform.host)
        return self._http

    async def _migrate(self) -> dict[str, list[str]]:
        """Create the secrets that have no value yet, migrate the database to this version, then see to the role of
        direct workers."""
        settings = Settings.from_environment(self._environ)
        api = self._api()
        created = await provision(api, settings.provision, settings.token_days)
        url = self._owner_url(settings, api)
        password = await _role_password(settings, api)
        applied = await asyncio.to_thread(lambda: _set_up(url if isinstance(url, str) else url(), settings, password))
        return {"secrets": created, "migrations": applied}

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
        return database_url_of(settings, api.account, SecretsManager(api, settings.secrets, ttl=0.0))

    def _api(self) -> Api:
        return Api(Account.of(self._environ))


async def _role_password(settings: Settings, api: Api) -> str | None:
    """None if there is no such role, or it signs in without a password."""
    name = f"{DATABASE_ROLE}{settings.worker_role}"
    if name not in settings.provision:
        return None
    return password_of(await SecretsManager(api, settings.provision).read(name))


def _set_up(url: str, settings: Settings, password: str | None) -> list[str]:
    """The migrations that were run."""
    applied = migrate(url)
    if settings.worker_role:
        create_worker_role(url, settings.worker_role, password)
    else:
        # workers were direct before, perhaps
        lock_worker_role(url, worker_role(url))
    return applied
