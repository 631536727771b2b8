from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from noetl_serverless.store.connection import Database
from noetl_serverless.store.migrate import migrate


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    migrate(postgres_url)
    database = Database(postgres_url, 4)
    yield database
    await database.close()
