from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.migrate import migrate


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    migrate(postgres_url)
    database = Database(postgres_url, 4)
    yield database
    await database.close()


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    """One session, whose plans are kept."""
    migrate(postgres_url)
    with closing(connect(postgres_url)) as connection:
        yield connection
