"""Brings a deployment to this release: its secrets, its database, the database role of direct workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pg8000.exceptions import DatabaseError, InterfaceError

from ...errors import Unavailable
from ...settings import Settings
from ...store.connection import connect
from ...store.migrate import migrate
from ...store.worker_role import create_worker_role, lock_worker_role, worker_role
from .provision import DATABASE_ROLE, password_of, provision
from .vault import Vault

# any number will do, as long as it is always the same, and none that a statement of the store takes
LOCK_ID = 4_215_077_401
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(:lock)"
WAIT_SECONDS = 60.0
PAUSE_SECONDS = 0.2


async def migrate_deployment(
    settings: Settings, vault: Vault, owner_url: str | Callable[[], str]
) -> dict[str, list[str]]:
    """Create the secrets that have no value yet, migrate the database to this version, then see to the role of direct
    workers; returns the names of the `secrets` that were written and of the `migrations` that were run.

    `owner_url`: the database, as the user who owns it; if a function, it is called in a thread. Two at once follow each
    other.
    """
    url = owner_url if isinstance(owner_url, str) else await asyncio.to_thread(owner_url)
    async with _alone(url) as check:
        created = await provision(vault, settings.provision, settings.token_days, settings.host)
        # whoever has lost the lock meanwhile is not to go on
        await check()
        password = await _role_password(settings, vault)
        applied = await asyncio.to_thread(_set_up, url, settings, password)
        await check()
    return {"secrets": created, "migrations": applied}


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """While nobody else does the same: not every cloud's secret store lets the first of two writers win. What is
    yielded raises Unavailable if the lock has been lost. Unavailable, too, if another has it for too long."""
    connection = await asyncio.to_thread(connect, url)
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        # a transaction-level lock, since a pooler may give each transaction another session
        await asyncio.to_thread(connection.run, "BEGIN")
        await asyncio.to_thread(connection.run, "SET LOCAL idle_in_transaction_session_timeout = 0")
        # not waiting in the database: those who wait would take the threads that the one under way needs
        while not (await asyncio.to_thread(connection.run, TRY_LOCK, lock=LOCK_ID))[0][0]:
            if time.monotonic() > deadline:
                raise Unavailable("another migration of this deployment is under way: wait until it has ended")
            await asyncio.sleep(PAUSE_SECONDS)

        async def check() -> None:
            try:
                await asyncio.to_thread(connection.run, "SELECT 1")
            except (DatabaseError, InterfaceError) as error:
                raise Unavailable("the database has ended the connection that held the lock: migrate again") from error

        yield check
    finally:
        await asyncio.to_thread(connection.quit)


async def _role_password(settings: Settings, vault: Vault) -> str | None:
    """None if there is no such role, or it signs in without a password."""
    id = settings.provision.get(f"{DATABASE_ROLE}{settings.worker_role}")
    value = None if id is None else await vault.read(id)
    return None if value is None else password_of(value)


def _set_up(url: str, settings: Settings, password: str | None) -> list[str]:
    """The migrations that were run."""
    applied = migrate(url)
    if settings.worker_role:
        create_worker_role(url, settings.worker_role, password)
    else:
        # workers were direct before, perhaps
        lock_worker_role(url, worker_role(url))
    return applied
