"""A deployment brought to this release, on a real database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import urlsplit

import pytest
from tests.unit.hosts.cloud.conftest import MemoryVault

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.cloud import migration
from noetl_serverless.hosts.cloud.migration import migrate_deployment
from noetl_serverless.settings import Settings
from noetl_serverless.store.connection import connect
from noetl_serverless.store.migrate import migrations

SECRETS = {"token_key": "a", "encryption_keys": "b", "service_token/worker": "c"}


class LastWins(MemoryVault):
    """As Secret Manager: nothing refuses the second of two writers, and both take their time."""

    async def read(self, id: str) -> str | None:
        found = self.values[id]
        await asyncio.sleep(0.01)
        return found

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        await asyncio.sleep(0.01)
        self.values[id] = value
        return True


def settings(**more: str) -> Settings:
    return Settings.from_environment({"NOETL_HOST": "gcp", "NOETL_PROVISION": json.dumps(SECRETS), **more})


async def test_it_fills_the_secrets_and_migrates_the_database_once(postgres_url: str) -> None:
    vault = MemoryVault(dict.fromkeys("abc"))
    done = await migrate_deployment(settings(), vault, postgres_url)
    assert sorted(done["secrets"]) == sorted(SECRETS)
    assert done["migrations"] == [name for name, _ in migrations()]
    before = dict(vault.values)
    assert await migrate_deployment(settings(), vault, lambda: postgres_url) == {"secrets": [], "migrations": []}
    assert vault.values == before


async def test_of_two_at_once_the_second_finds_what_the_first_has_done(postgres_url: str) -> None:
    """Otherwise what is sealed with the keys of the first could never be opened again."""
    vault = LastWins(dict.fromkeys("abc"))
    both = await asyncio.gather(*(migrate_deployment(settings(), vault, postgres_url) for _ in range(2)))
    assert sorted(len(done["secrets"]) for done in both) == [0, 3]
    assert sorted(len(done["migrations"]) for done in both) == [0, len(migrations())]


async def test_a_migration_that_has_lost_its_lock_does_not_go_on(postgres_url: str) -> None:
    class Ended(MemoryVault):
        """While the secrets are written, the database ends the connection that holds the lock."""

        async def replace(self, id: str, value: str, previous: str | None) -> bool:
            with contextlib.closing(connect(postgres_url)) as administrator:
                administrator.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            return await super().replace(id, value, previous)

    with pytest.raises(Unavailable):
        await migrate_deployment(settings(), Ended(dict.fromkeys("abc")), postgres_url)
    with contextlib.closing(connect(postgres_url)) as database:
        assert database.run("SELECT to_regclass('noetl.migration')") == [[None]]


async def test_a_server_that_ends_idle_transactions_does_not_take_the_lock_away(postgres_url: str) -> None:
    with contextlib.closing(connect(postgres_url)) as administrator:
        name = urlsplit(postgres_url).path[1:]
        administrator.run(f"ALTER DATABASE \"{name}\" SET idle_in_transaction_session_timeout = '20ms'")
    both = await asyncio.gather(
        *(migrate_deployment(settings(), vault, postgres_url) for vault in [LastWins(dict.fromkeys("abc"))] * 2)
    )
    assert sorted(len(done["secrets"]) for done in both) == [0, 3]


async def test_who_waits_too_long_for_another_migration_learns_why(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "WAIT_SECONDS", 0.0)
    with contextlib.closing(connect(postgres_url)) as other:
        other.run("BEGIN")
        other.run("SELECT pg_advisory_xact_lock(:lock)", lock=migration.LOCK_ID)
        with pytest.raises(Unavailable, match="another migration of this deployment is under way"):
            await migrate_deployment(settings(), MemoryVault(dict.fromkeys("abc")), postgres_url)
