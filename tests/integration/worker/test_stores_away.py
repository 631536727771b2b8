"""A worker whose result store is away for a while, or for too long: each store alike."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.chaos.proxy import Proxy, Wire
from tests.integration.worker.stack import Direct, Stack
from tests.object_servers import FakeGcs

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_results import NatsResultStore
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.ports import ResultStore
from noetl_serverless.protocol import HeartbeatRequest
from noetl_serverless.results import retry
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.database import Database
from noetl_serverless.store.migrate import migrate
from noetl_serverless.store.result_objects import PostgresResultStore
from noetl_serverless.worker.worker import Worker

STORES = ("disk", "gcs", "kv", "postgres")
# seconds
LEASE = 1.0
AWAY = 1.5
PLAYBOOK = """
workflow:
  - step: make
    tool:
      kind: duckdb
      query: "SELECT range AS n, 'row ' || range AS name FROM range(10000)"
      output: {store: {kind: STORE}}
    next: {arcs: [{step: use}]}
  - step: use
    input: {rows: "{{ make.rows }}"}
    tool: {kind: duckdb, query: "SELECT count(*) AS count, sum(n) AS sum FROM rows"}
"""


@dataclass
class Place:
    """A store, and how to take it away and give it back. `looks`: the same store, past what takes it away."""

    store: ResultStore
    looks: ResultStore
    leave: Callable[[Wire], None]
    come_back: Callable[[], None]


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = FakeGcs(tmp_path_factory.mktemp("gcs"))
    server.start()
    server.create_bucket("away")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def results_url(postgres_server: Postgres) -> str:
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    migrate(postgres_server.url_of(name))
    return postgres_server.url_of(name)


def behind(url: str) -> tuple[Proxy, str]:
    """A proxy, and the URL of the server by it."""
    port = urlsplit(url).port
    assert port is not None
    proxy = Proxy(port)
    return proxy, url.replace(f":{port}", f":{proxy.port}")


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    name, unique = request.param, f"t{secrets.token_hex(6)}"
    if name == "disk":
        folder, aside = tmp_path / "results", tmp_path / "aside"
        folder.mkdir()

        def leave(wire: Wire) -> None:
            folder.rename(aside)
            folder.touch()

        def come_back() -> None:
            folder.unlink()
            aside.rename(folder)

        store = FsspecResultStore(folder.as_uri())
        yield Place(store, store, leave, come_back)
        return
    closes: list[Any] = []
    if name == "gcs":
        url = request.getfixturevalue("gcs").url
        proxy, through = behind(url)
        stores = [object_store(f"gs://away/{unique}", {"STORAGE_EMULATOR_HOST": one}) for one in (through, url)]
    elif name == "kv":
        url = request.getfixturevalue("nats_url")
        proxy, through = behind(url)
        connections = [NatsConnection(one) for one in (through, url)]
        closes = [connection.close for connection in connections]
        stores = [NatsResultStore(connection, unique) for connection in connections]
    else:
        url = request.getfixturevalue("results_url")
        proxy, through = behind(url)
        databases = [Database(one, 2) for one in (through, url)]
        closes = [database.close for database in databases]
        await databases[1].run("TRUNCATE noetl.result_object, noetl.result_chunk")
        stores = [PostgresResultStore(database) for database in databases]

    def become(wire: Wire) -> None:
        proxy.become(wire)
        proxy.settle()

    yield Place(stores[0], stores[1], become, lambda: become(Wire.WHOLE))
    for close in closes:
        await close()
    proxy.close()


class Watched(Direct):
    """Counts heartbeats."""

    heartbeats = 0

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> Any:
        self.heartbeats += 1
        return await super().heartbeat(request, timeout=timeout)


class Flow:
    """A playbook whose first step writes to the store, and whose second reads what it has written."""

    def __init__(self, scratch: Path, place: Place) -> None:
        self.place = place
        self.stack = Stack(scratch)
        name = place.store.name
        if name in ("kv", "postgres"):
            others: dict[str, Any] = {name: place.store}
            self.stack.stores = ResultStores(self.stack.store, **others)
        else:
            self.stack.stores = ResultStores(place.store)
        self.client = Watched(self.stack.orchestrator, self.stack.log)
        self.worker: Worker = self.stack.another(self.client, lease=LEASE)

    async def run(self) -> Any:
        """The state at the end."""
        name = self.place.store.name
        self.stack.catalog.add("t/t", PLAYBOOK.replace("STORE", name))
        id = (await self.stack.orchestrator.start(path="t/t", payload={})).execution_id
        self.id = id
        for _ in range(10):
            await self.worker.drain(30)
            state = await self.stack.state(id)
            if state.ended:
                return state
        raise AssertionError(f"it did not end: {state}")

    async def left(self) -> list[str]:
        """The keys of all that is in the store."""
        return [key async for key in self.place.looks.list("")]


@pytest.fixture
async def flow(tmp_path: Path, place: Place) -> AsyncIterator[Flow]:
    flow = Flow(tmp_path / "scratch", place)
    yield flow
    await flow.worker.close()
    await flow.stack.worker.close()


@pytest.mark.parametrize("wire", [Wire.REFUSE, Wire.STALL])
async def test_a_store_that_is_away_for_a_while_is_waited_for(flow: Flow, place: Place, wire: Wire) -> None:
    if place.store.name == "disk" and wire is Wire.STALL:
        pytest.skip("there is no line to a folder")
    place.leave(wire)
    running = asyncio.create_task(flow.run())
    try:
        await asyncio.sleep(AWAY)
        assert not running.done()
    finally:
        place.come_back()
    state = await running
    assert state.status == "completed", state.error
    types = flow.stack.types(flow.id)
    assert types.count("call.done") == 2, "a tool ran again, or its work was lost"
    assert flow.client.heartbeats > 0, "no heartbeat while it waited"
    assert len(await flow.left()) == 1


async def test_a_store_that_is_away_for_too_long_fails_the_step(
    flow: Flow, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.3)
    place.leave(Wire.REFUSE)
    try:
        state = await flow.run()
    finally:
        place.come_back()
    assert state.status == "failed"
    assert (state.error["code"], state.error["step"]) == ("result_store.unavailable", "make")
    (failed,) = (event for event in flow.stack.log.executions[flow.id].events if event.type == "call.error")
    assert failed.payload["error"]["retryable"] is True
    assert await flow.left() == []
