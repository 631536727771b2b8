from __future__ import annotations

from collections.abc import Iterator

import pytest

from noetl_serverless.errors import Unavailable
from noetl_serverless.store.connection import Connection, Database, connect


@pytest.fixture
def other(postgres_url: str) -> Iterator[Connection]:
    """A connection from elsewhere."""
    connection = connect(postgres_url)
    yield connection
    connection.close()


async def pid(database: Database) -> int:
    return int((await database.run("SELECT pg_backend_pid()"))[0][0])


async def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced(postgres_url: str, other: Connection) -> None:
    database = Database(postgres_url, 1)
    first = await pid(database)
    other.run("SELECT pg_terminate_backend(:pid, 5000)", pid=first)
    assert await pid(database) != first
    await database.close()


async def test_a_connection_in_use_is_kept(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    assert await pid(database) == await pid(database)
    await database.close()


async def test_a_connection_that_breaks_in_the_middle_is_told(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    with pytest.raises(Unavailable):
        await database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    await database.close()


async def test_the_url_is_asked_for_with_each_new_connection(postgres_url: str, other: Connection) -> None:
    asked: list[str] = []

    def url() -> str:
        asked.append(postgres_url)
        return postgres_url

    database = Database(url, 1)
    first = await pid(database)
    await pid(database)
    assert len(asked) == 1
    other.run("SELECT pg_terminate_backend(:pid, 5000)", pid=first)
    await pid(database)
    assert len(asked) == 2
    await database.close()
