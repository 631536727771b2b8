"""Results in PostgreSQL of workers that do not reach it: over HTTP, through a control plane of the test's own."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from tests.integration.store.test_result_objects import HELD
from tests.unit.results.contract import ResultStoreContract
from tests.unit.results.write_once_contract import WriteOnceContract

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.tokens import mint
from noetl_serverless.errors import AccessDenied, Forbidden, NotFound, Problem, Unavailable
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.results.chunked import CHUNK_BYTES
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.migrate import migrate
from noetl_serverless.store.result_objects import PostgresResultStore
from noetl_serverless.worker.client import ControlPlane
from noetl_serverless.worker.remote_results import PATH, RemoteResultStore

TOKEN_KEY = "k" * 32
SMALL = 1000
KEY = "7/a/k.json"
EXECUTIONS = (1, 2, 7, 9, 12)


class Remote(RemoteResultStore):
    """With what a reconciler does for it."""

    def __init__(self, client: ControlPlane, owner: PostgresResultStore) -> None:
        super().__init__(client, "w", chunk_bytes=SMALL)
        self.owner = owner

    async def delete(self, key: str) -> None:
        await self.owner.delete(key)

    def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        return self.owner.list(prefix, after)


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
    for id in EXECUTIONS:
        await database.run(HELD, id=id, left="1 h")
    yield database
    await database.close()


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    keys = f"one:{base64.b64encode(b'k' * 32).decode()}"
    catalog, results = PostgresCatalog(database), ResultStores(postgres=PostgresResultStore(database))
    orchestrator = Orchestrator(PostgresEventStore(database), Plans(catalog), Notifications(None, None))
    app = create_app(
        Settings(token_key=TOKEN_KEY, encryption_keys=keys),
        database=database,
        orchestrator=orchestrator,
        catalog=catalog,
        results=lambda: results,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
async def client(url: str) -> AsyncIterator[ControlPlane]:
    client = ControlPlane(url, mint(TOKEN_KEY, "worker", "w", 3600))
    yield client
    await client.close()


@pytest.fixture
def store(client: ControlPlane, database: Database) -> Remote:
    return Remote(client, PostgresResultStore(database, chunk_bytes=SMALL))


class TestContract(ResultStoreContract, WriteOnceContract):
    sizes = (0, 1, SMALL, SMALL + 1, 3 * SMALL)
    file_bytes = 5 * SMALL + 5
    sequences = 3


async def test_large_results_go_in_chunks_that_every_host_takes(client: ControlPlane, database: Database) -> None:
    store, content = RemoteResultStore(client, "w"), os.urandom(2 * CHUNK_BYTES + 10)
    await store.put(KEY, content)
    assert await store.get(KEY) == content
    assert await PostgresResultStore(database).get(KEY) == content


async def test_a_worker_writes_below_executions_of_which_it_holds_a_lease(
    client: ControlPlane, store: Remote, database: Database
) -> None:
    for size in (10, 3 * SMALL):
        with pytest.raises(AccessDenied, match="no lease of its execution"):
            await store.put("8/a/k.json", b"x" * size)
        with pytest.raises(AccessDenied):
            await RemoteResultStore(client, "other", chunk_bytes=SMALL).put(KEY, b"x" * size)
    await store.owner.put("8/a/k.json", b"of another one")
    assert await store.get("8/a/k.json") == b"of another one"
    assert [key async for key in store.list("")] == ["8/a/k.json"]


async def test_a_worker_neither_lists_nor_deletes(client: ControlPlane) -> None:
    store = RemoteResultStore(client, "w")
    with pytest.raises(AccessDenied):
        await store.delete(KEY)
    with pytest.raises(AccessDenied):
        store.list("")
    for method in ("DELETE", "POST"):
        with pytest.raises(Problem, match="Method Not Allowed"):
            await client.transfer(method, f"{PATH}?key={KEY}")


@pytest.mark.parametrize("role", ["gateway", "reconciler"])
async def test_only_workers_may(url: str, role: Any) -> None:
    client = ControlPlane(url, mint(TOKEN_KEY, role, "x", 3600))
    store = RemoteResultStore(client, "w")
    with pytest.raises(Forbidden):
        await store.put(KEY, b"x")
    with pytest.raises(Forbidden):
        await store.put(KEY, b"x" * 2 * CHUNK_BYTES)
    with pytest.raises(Forbidden):
        await store.get(KEY)
    await client.close()


async def test_what_is_larger_than_a_chunk_is_refused(client: ControlPlane) -> None:
    with pytest.raises(Exception, match="the limit is 1048576"):
        await RemoteResultStore(client, "w").put_chunk(uuid.uuid4(), 0, b"x" * (CHUNK_BYTES + 1))


async def test_a_control_plane_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.worker.remote_results.TIMEOUT_SECONDS", 0.2)
    client = ControlPlane("http://127.0.0.1:1", "token")
    for failed in (RemoteResultStore(client, "w").put(KEY, b"x"), RemoteResultStore(client, "w").get(KEY)):
        with pytest.raises(Unavailable):
            await failed
    await client.close()


async def test_one_of_the_release_before_is_as_good_as_away(
    client: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lacks(*request: Any, **more: Any) -> Any:
        raise NotFound("Not Found")

    monkeypatch.setattr(client, "transfer", lacks)
    with pytest.raises(Unavailable, match="takes no results for PostgreSQL"):
        await RemoteResultStore(client, "w").put(KEY, b"x")
