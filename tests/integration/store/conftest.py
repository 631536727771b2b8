from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.database import Database


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 4)
    yield database
    await database.close()


@pytest.fixture
def connection(migrated_url: str) -> Iterator[Connection]:
    """One session, whose plans are kept."""
    with closing(connect(migrated_url)) as connection:
        yield connection
