"""The database URL with the credentials of a secret, determined for each new connection."""

from __future__ import annotations

import asyncio

from ...ports import SecretStore
from .configuration import database_url

CONNECT_TIMEOUT_SECONDS = 15.0


class SecretDatabaseUrl:
    """The URL with the credentials of the secret. To be called in a thread, while `loop` runs."""

    def __init__(self, configured: str, store: SecretStore, loop: asyncio.AbstractEventLoop) -> None:
        self._configured = configured
        self._store = store
        self._loop = loop

    def __call__(self) -> str:
        reading = asyncio.run_coroutine_threadsafe(self._store.read("database_url"), self._loop)
        return database_url(self._configured, reading.result(CONNECT_TIMEOUT_SECONDS))
