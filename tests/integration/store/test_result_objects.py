"""Results in PostgreSQL, against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
from tests.integration.store.plans import EXPLAIN, pages_of
from tests.integration.store.test_worker_role import PASSWORD, url_of
from tests.unit.results.contract import ResultStoreContract
from tests.unit.results.write_once_contract import WriteOnceContract

from noetl_serverless.errors import AccessDenied, Unavailable
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.results.chunked import CHUNK_BYTES
from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.migrate import migrate
from noetl_serverless.store.queries import load
from noetl_serverless.store.result_objects import LAST, PostgresResultStore, WorkerResultStore
from noetl_serverless.store.worker_role import create_worker_role, worker_role

SMALL = 1000
SQL = load("result_objects")
KEY = "7/a/k.json"


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Postgres) -> str:
    """A database for all tests here, which are many and short."""
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    migrate(postgres_server.url_of(name))
    return postgres_server.url_of(name)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, 4)
    await database.run("TRUNCATE noetl.result_object, noetl.result_chunk, noetl.command, noetl.execution")
    yield database
    await database.close()


@pytest.fixture
def connection(database: Database, postgres_url: str) -> Iterator[Connection]:
    with closing(connect(postgres_url)) as connection:
        yield connection


@pytest.fixture
def store(database: Database) -> PostgresResultStore:
    return PostgresResultStore(database, chunk_bytes=SMALL)


class TestContract(ResultStoreContract, WriteOnceContract):
    sizes = (0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL, 3 * SMALL + 500)
    file_bytes = 20 * SMALL + 5


class TestContractWithChunksOfDeployments(ResultStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> PostgresResultStore:
        return PostgresResultStore(database)


async def test_who_reads_in_other_chunks_than_were_written_reads_the_same(database: Database) -> None:
    content = os.urandom(10 * SMALL + 7)
    await PostgresResultStore(database, chunk_bytes=SMALL).put(KEY, content)
    for chunk_bytes in (1, 333, SMALL + 1, 4 * SMALL, CHUNK_BYTES)[1:]:
        store = PostgresResultStore(database, chunk_bytes=chunk_bytes)
        assert await store.get(KEY) == content
        assert await store.get_range(KEY, 990, 5000) == content[990:5990]


async def test_what_its_writer_left_is_listed_and_can_be_deleted(database: Database, connection: Connection) -> None:
    class Dying(PostgresResultStore):
        async def put_chunk(self, upload: uuid.UUID, number: int, data: bytes) -> str:
            if number == 2:
                raise Unavailable("it was killed")
            return await super().put_chunk(upload, number, data)

    store = PostgresResultStore(database, chunk_bytes=SMALL)
    with pytest.raises(Unavailable):
        await Dying(database, chunk_bytes=SMALL).put(KEY, b"x" * 5 * SMALL)
    assert connection.run("SELECT count(*) > 0 FROM noetl.result_chunk") == [[True]]
    with pytest.raises(KeyError):
        await store.get(KEY)
    assert [key async for key in store.list("7/")] == [KEY]
    await store.put(KEY, b"y" * 3 * SMALL)
    assert await store.get(KEY) == b"y" * 3 * SMALL, "what was left is no part of what came after"
    await store.delete(KEY)
    assert [key async for key in store.list("")] == []
    assert connection.run("SELECT count(*) FROM noetl.result_chunk") == [[0]]


async def test_an_upload_that_is_deleted_meanwhile_begins_again(database: Database) -> None:
    class Interrupted(PostgresResultStore):
        left = 1

        async def finish(self, key: str, upload: uuid.UUID, size: int, digest: bytes) -> str:
            if self.left:
                self.left -= 1
                await self.delete(key)
            return await super().finish(key, upload, size, digest)

    store = Interrupted(database, chunk_bytes=SMALL)
    await store.put(KEY, b"x" * 3 * SMALL)
    assert await store.get(KEY) == b"x" * 3 * SMALL
    store.left = 10
    with pytest.raises(Unavailable, match="was deleted while it was written"):
        await store.put("7/a/other.json", b"x" * 3 * SMALL)


async def test_an_upload_without_all_its_bytes_is_no_object(database: Database) -> None:
    class Losing(PostgresResultStore):
        async def put_chunk(self, upload: uuid.UUID, number: int, data: bytes) -> str:
            return await super().put_chunk(upload, number, data[:-1] if number == self.short else data)

        short = 0

    store = Losing(database, chunk_bytes=SMALL)
    for store.short in (0, 2):
        with pytest.raises(Unavailable):
            await store.put(KEY, b"x" * 3 * SMALL)
        with pytest.raises(KeyError):
            await store.get(KEY)


async def test_a_call_that_is_repeated_for_a_lost_answer_changes_nothing(database: Database) -> None:
    class Repeating(PostgresResultStore):
        async def _status(self, statement: str, *values: bytes | None) -> str:
            first = await super()._status(statement, *values)
            again = await super()._status(statement, *values)
            assert again in (first, "same", "written", "")
            return again

    store = Repeating(database, chunk_bytes=SMALL)
    for size in (10, 3 * SMALL):
        await store.put(f"7/a/{size}", b"x" * size)
        assert await store.get(f"7/a/{size}") == b"x" * size


async def test_a_part_is_read_without_the_chunks_that_it_is_not_in(database: Database) -> None:
    class Counting(PostgresResultStore):
        read = 0

        async def read_part(self, key: str, offset: int, length: int) -> object:  # type: ignore[override]
            part = await super().read_part(key, offset, length)
            self.read += len(part.data) if part else 0
            return part

        async def read_more(self, upload: uuid.UUID, offset: int, length: int) -> bytes | None:
            data = await super().read_more(upload, offset, length)
            self.read += len(data or b"")
            return data

    store = Counting(database, chunk_bytes=SMALL)
    content = os.urandom(100 * SMALL)
    await store.put(KEY, content)
    assert await store.get_range(KEY, 50_990, 20) == content[50_990:51_010]
    assert store.read == 20
    assert await store.get_range(KEY, 2**62, 20) == b""


async def test_a_large_file_is_never_in_memory_as_a_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watching(PostgresResultStore):
        under_way = longest = 0

        async def put_chunk(self, upload: uuid.UUID, number: int, data: bytes) -> str:
            self.under_way += len(data)
            self.longest = max(self.longest, self.under_way)
            try:
                return await super().put_chunk(upload, number, data)
            finally:
                self.under_way -= len(data)

    store = Watching(database, chunk_bytes=SMALL)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(os.urandom(200 * SMALL))
        source.flush()
        await store.put_file(KEY, source.fileno(), 200 * SMALL)
        assert store.longest <= 2 * SMALL
        assert await store.get_file(KEY, target.fileno()) == 200 * SMALL
        assert os.pread(target.fileno(), 300 * SMALL, 0) == os.pread(source.fileno(), 300 * SMALL, 0)


async def test_a_listing_goes_from_page_to_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.store.result_objects.PAGE", 7)
    store = PostgresResultStore(database)
    keys = sorted(f"1/s{number % 3}/{number}" for number in range(21))
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    assert [key async for key in store.list("1/")] == keys
    assert [key async for key in store.list("1/s1/")] == keys[7:14]


async def test_chunks_are_not_compressed(store: PostgresResultStore, connection: Connection) -> None:
    await store.put(KEY, b"x" * 3 * SMALL)
    await PostgresResultStore(store._database).put("7/a/large", b"x" * 100_000)
    sizes = connection.run("SELECT pg_column_size(data) FROM noetl.result_chunk ORDER BY 1 DESC LIMIT 1")
    assert sizes == [[100_000]]


FILL = """
INSERT INTO noetl.result_object (upload, key, chunk_bytes, bytes, sha256)
SELECT gen_random_uuid(), n || '/step/' || n || '.json', 1000, 1000, ''
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) n"""
CHUNKS = """
INSERT INTO noetl.result_chunk (upload, number, data)
SELECT upload, 0, CAST(repeat('x', 1000) AS bytea) FROM noetl.result_object"""
OF_ONE = {
    "read": "SELECT * FROM noetl.read_object('77/step/77.json', 0, 100)",
    "read_chunk": "SELECT * FROM noetl.read_chunk(CAST(:upload AS uuid), 0, 100)",
    "put": "SELECT noetl.put_object('7/a', gen_random_uuid(), 'x', '', 1000, 'w')",
    "put again": "SELECT noetl.put_object('77/step/77.json', gen_random_uuid(), 'x', '', 1000, 'w')",
    "finish": "SELECT noetl.finish_object('77/step/77.json', CAST(:upload AS uuid), 1000, '')",
    "may write": "SELECT noetl.may_write('77/step/78.json', 'w')",
    "delete": "DELETE FROM noetl.result_object WHERE key = '77/step/77.json'",
    "keys": SQL["keys"].replace(":limit", "1000"),
}
# a few levels of the indexes, and what is written
MAX_PAGES = 60


@pytest.mark.parametrize("analysed", [False, True])
def test_what_is_read_of_one_object_does_not_grow_with_the_others(connection: Connection, analysed: bool) -> None:
    def pages(name: str) -> int:
        query = OF_ONE[name]
        given = {"first": "77/", "after": "", "last": f"77/{LAST}"} if name == "keys" else {}
        if ":upload" in query:
            [[given["upload"]]] = connection.run(
                "SELECT upload::text FROM noetl.result_object WHERE key = '77/step/77.json'"
            )
        connection.run("BEGIN")
        [[plan]] = connection.run(EXPLAIN + query, **given)
        connection.run("ROLLBACK")
        return pages_of(plan)

    connection.run(FILL, first=1, last=80)
    connection.run(CHUNKS)
    for _ in range(6):
        # until the session has made its plans
        few = {name: pages(name) for name in OF_ONE}
    connection.run(FILL, first=81, last=20_000)
    connection.run(f"{CHUNKS} WHERE bytes IS NOT NULL ON CONFLICT DO NOTHING")
    if analysed:
        connection.run("ANALYZE noetl.result_object, noetl.result_chunk")
    for name in OF_ONE:
        # the first one may plan anew, which reads statistics
        many = min(pages(name), pages(name))
        assert many <= max(few[name] + 20, MAX_PAGES), f"{name}: {many} pages, and {few[name]} of few"


# -- workers

HELD = """
INSERT INTO noetl.command (
    execution_id, command_id, step, generation, kind, attempt, pool, status, worker, fence, lease_until, seq, issued_at)
VALUES (
    CAST(:id AS bigint), 'c', 's', 1, 'step', 1, 'shared', 'claimed', 'w', 1, now() + CAST(:left AS interval), 1,
    now())"""
DIRECT = """
INSERT INTO noetl.execution (
    execution_id, catalog_id, path, version, plan_hash, depth, status, head, folded, state, finished, workload,
    created_at, direct_seq, direct_fence, direct_since, direct_command, direct_pool, direct_worker, direct_lease)
VALUES (CAST(:id AS bigint), 1, 'p', 1, 'h', 0, 'RUNNING', 1, 1, '{}', 0, '{}', now(), 1, 1, now(), 'c', 'shared', 'w',
    CAST(:left AS interval))"""


@pytest.fixture
async def worker_database(role: str, postgres_url: str) -> AsyncIterator[Database]:
    database = Database(url_of(postgres_url, role, PASSWORD), 4)
    yield database
    await database.close()


@pytest.fixture(scope="module")
def role(postgres_url: str) -> Iterator[str]:
    role = worker_role(postgres_url)
    create_worker_role(postgres_url, role, PASSWORD)
    yield role
    with closing(connect(postgres_url)) as owner:
        owner.run(f"DROP OWNED BY {role}")
        owner.run(f"DROP ROLE {role}")


@pytest.fixture
def workers(worker_database: Database) -> WorkerResultStore:
    return WorkerResultStore(worker_database, "w", chunk_bytes=SMALL)


@pytest.mark.parametrize("lease", [HELD, DIRECT], ids=["a command", "a direct lease"])
@pytest.mark.parametrize("size", [10, 3 * SMALL])
async def test_a_worker_writes_below_executions_of_which_it_holds_a_lease(
    workers: WorkerResultStore, store: PostgresResultStore, connection: Connection, lease: str, size: int
) -> None:
    connection.run(lease, id=7, left="1 h")
    connection.run(lease, id=8, left="1 h")
    connection.run("UPDATE noetl.command SET worker = 'next' WHERE execution_id = 8")
    connection.run("UPDATE noetl.execution SET direct_worker = 'next' WHERE execution_id = 8")
    content = os.urandom(size)
    await workers.put(KEY, content)
    assert await workers.put(KEY, content) == await workers.put(KEY, content)
    assert await workers.get(KEY) == await store.get(KEY) == content
    for key in ("8/a/k.json", "9/a/k.json", "7", "x/a/k.json", "9999999999999999999/a", "77/a/k.json"):
        with pytest.raises(AccessDenied, match="no lease of its execution"):
            await workers.put(key, content)
    with pytest.raises(AccessDenied):
        await WorkerResultStore(workers._database, "other", chunk_bytes=SMALL).put("7/a/other.json", content)
    assert [key async for key in store.list("")] == [KEY]


async def test_a_worker_that_loses_its_lease_does_not_finish(
    workers: WorkerResultStore, store: PostgresResultStore, connection: Connection
) -> None:
    connection.run(HELD, id=7, left="1 h")
    upload, data = uuid.uuid4(), b"x" * 2 * SMALL
    assert await workers.begin(KEY, upload) == "begun"
    for number in range(2):
        assert await workers.put_chunk(upload, number, b"x" * SMALL) == "put"
    connection.run("UPDATE noetl.command SET worker = 'other'")
    assert await workers.finish(KEY, upload, len(data), hashlib.sha256(data).digest()) == "refused"
    with pytest.raises(KeyError):
        await store.get(KEY)


async def test_a_worker_adds_nothing_to_what_others_write(
    workers: WorkerResultStore, store: PostgresResultStore, connection: Connection
) -> None:
    connection.run(HELD, id=7, left="1 h")
    upload, digest = uuid.uuid4(), hashlib.sha256(b"x" * SMALL).digest()
    await store.begin(KEY, upload)
    assert await workers.put_chunk(upload, 0, b"x" * SMALL) == "refused"
    assert await workers.finish(KEY, upload, SMALL, digest) == "refused"
    written = await workers.put("7/a/own.json", b"y" * 3 * SMALL)
    [[own]] = connection.run("SELECT upload::text FROM noetl.result_object WHERE key = :key", key=written.key)
    assert await workers.put_chunk(uuid.UUID(own), 3, b"z") == "refused", "it is whole"
    assert await workers.put_chunk(uuid.uuid4(), 0, b"z") == "gone"


async def test_a_worker_reads_what_others_have_made(workers: WorkerResultStore, store: PostgresResultStore) -> None:
    await store.put("9/a/k.json", b"x" * 3 * SMALL)
    assert await workers.get("9/a/k.json") == b"x" * 3 * SMALL
    assert await workers.get_range("9/a/k.json", 900, 200) == b"x" * 200


async def test_a_worker_neither_lists_nor_deletes(
    workers: WorkerResultStore, worker_database: Database, store: PostgresResultStore
) -> None:
    await store.put(KEY, b"x")
    with pytest.raises(AccessDenied):
        await workers.delete(KEY)
    with pytest.raises(AccessDenied):
        workers.list("")
    unchecked = PostgresResultStore(worker_database, chunk_bytes=SMALL)
    for refused in (
        unchecked.delete(KEY),
        anext(aiter(unchecked.list(""))),
        unchecked.put("7/a/other.json", b"x"),
        unchecked.put("7/a/other.json", b"x" * 3 * SMALL),
        worker_database.run("SELECT * FROM noetl.result_object"),
        worker_database.run("SELECT * FROM noetl.result_chunk"),
        worker_database.run("SELECT noetl.may_write('7/a', 'w')"),
        worker_database.run("DELETE FROM noetl.result_chunk"),
    ):
        with pytest.raises(Exception, match="permission denied"):
            await refused
    assert await store.get(KEY) == b"x"


@pytest.mark.parametrize("until", ["infinity", "-infinity"], ids=["has no end", "has run out"])
async def test_a_lease_counts_until_it_is_taken_away(
    workers: WorkerResultStore, connection: Connection, store: PostgresResultStore, until: str
) -> None:
    connection.run(HELD, id=7, left="1 h")
    connection.run(f"UPDATE noetl.command SET lease_until = '{until}'")
    await workers.put(KEY, b"x")
    assert await store.get(KEY) == b"x"
    connection.run("UPDATE noetl.command SET status = 'pending', worker = NULL, lease_until = NULL")
    with pytest.raises(AccessDenied):
        await workers.put("7/a/other.json", b"x")
