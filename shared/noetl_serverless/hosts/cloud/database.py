"""The database URL with the credentials of a secret, determined for each new connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from ...ports import SecretStore
from ...settings import Settings
from .configuration import MissingSecret, database_url

CONNECT_TIMEOUT_SECONDS = 15.0


class SecretDatabaseUrl:
    """The URL with the credentials of the secret. To be called in a thread, while `loop` runs."""

    def __init__(self, configured: str, store: SecretStore, loop: asyncio.AbstractEventLoop) -> None:
        self._configured = configured
        self._store = store
        self._loop = loop

    def __call__(self) -> str:
        reading = asyncio.run_coroutine_threadsafe(self._store.read("database_url"), self._loop)
        try:
            secret = reading.result(CONNECT_TIMEOUT_SECONDS)
        except KeyError:
            raise MissingSecret(
                "the secret 'database_url' has no value: put the database's password, or its whole URL, into it"
            ) from None
        return database_url(self._configured, secret)


def database_url_of(settings: Settings, store: SecretStore, loop: asyncio.AbstractEventLoop) -> str | Callable[[], str]:
    """The URL of the settings, or if its password is a secret, what gives the URL for each new connection."""
    if "database_url" in settings.secrets and not urlsplit(settings.database_url).password:
        return SecretDatabaseUrl(settings.database_url, store, loop)
    return settings.database_url
