"""Results in the database, written, read and deleted by several functions at once, also through a pooler."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import pytest

from noetl_serverless.errors import Conflict, Unavailable
from noetl_serverless.ports import StoredObject
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.result_objects import PostgresResultStore

MANY = 3
CHUNK = 2000
SIZE = 5 * CHUNK + 7


@pytest.fixture
async def stores(postgres_url: str, route: str) -> AsyncIterator[list[PostgresResultStore]]:
    """Each of a function of its own."""
    with closing(connect(postgres_url)) as connection:
        connection.run("TRUNCATE noetl.result_object, noetl.result_chunk")
    databases = [Database(route, 3) for _ in range(MANY)]
    yield [PostgresResultStore(database, chunk_bytes=CHUNK) for database in databases]
    for database in databases:
        await database.close()


async def test_what_several_write_under_one_key_is_of_one_of_them(stores: list[PostgresResultStore]) -> None:
    for number in range(8):
        key = f"1/s/{number}.json"
        contents = [bytes([writer]) * SIZE for writer in range(MANY)]
        ends = await asyncio.gather(
            *(store.put(key, content) for store, content in zip(stores, contents, strict=True)), return_exceptions=True
        )
        won = [content for content, end in zip(contents, ends, strict=True) if isinstance(end, StoredObject)]
        assert len(won) == 1, ends
        assert [type(end) for end in ends if not isinstance(end, StoredObject)] == [Conflict] * (MANY - 1)
        assert await asyncio.gather(*(store.get(key) for store in stores)) == won * MANY


async def test_who_reads_what_others_write_and_delete_gets_all_of_it_or_nothing(
    stores: list[PostgresResultStore],
) -> None:
    content, draw = random.Random(1).randbytes(SIZE), random.Random(2)
    keys = [f"1/s/{number}.json" for number in range(4)]
    found = {True: 0, False: 0}

    async def work(store: PostgresResultStore) -> None:
        for _ in range(30):
            key = draw.choice(keys)
            match draw.choice(("put", "get", "get", "delete")):
                case "put":
                    # deleted again and again
                    with suppress(Unavailable):
                        await store.put(key, content)
                case "delete":
                    await store.delete(key)
                case "get":
                    try:
                        assert await store.get(key) == content
                        found[True] += 1
                    except KeyError:
                        found[False] += 1

    await asyncio.gather(*(work(store) for store in stores for _ in range(2)))
    assert min(found.values()) > 0, found
    for key in keys:
        await stores[0].delete(key)
    assert [key async for key in stores[1].list("")] == []
