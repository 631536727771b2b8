"""A deployment brought to this release, on a real database."""

from __future__ import annotations

import asyncio
import json

from tests.unit.hosts.cloud.conftest import MemoryVault

from noetl_serverless.hosts.cloud.migration import migrate_deployment
from noetl_serverless.settings import Settings
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
