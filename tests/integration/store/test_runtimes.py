"""The registry of components, in a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.protocol import Instance
from noetl_serverless.store.database import Database
from noetl_serverless.store.runtimes import DEAD_AFTER_SECONDS, FORGOTTEN_AFTER_SECONDS, Runtimes
from noetl_serverless.store.worker_role import create_worker_role, url_as_worker, worker_role


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 2)
    yield database
    await database.close()


@pytest.fixture
def runtimes(database: Database) -> Runtimes:
    return Runtimes(database)


def worker(name: str, status: str = "ready", pool: str = "io", **fields: Any) -> Instance:
    return Instance(kind="worker_pool", name=name, status=status, pool=pool, **fields)


async def age(database: Database, name: str, seconds: float) -> None:
    """As if so much time had passed without a heartbeat."""
    await database.run(
        "UPDATE noetl.runtime SET heartbeat = heartbeat - make_interval(secs => :seconds) WHERE name = :name",
        seconds=seconds,
        name=name,
    )


async def states(runtimes: Runtimes) -> dict[str, str]:
    return {entry.name: entry.state for entry in await runtimes.entries(limit=100)}


async def test_an_instance_has_one_row_however_often_it_registers(runtimes: Runtimes) -> None:
    id = await runtimes.register(worker("w-1", labels={"use": "waits"}, capacity=8, pid=7))
    assert await runtimes.register(worker("w-1", "busy", running=3, capacity=8)) == id
    [entry] = await runtimes.entries(limit=10)
    assert (entry.status, entry.running, entry.capacity, entry.labels) == ("busy", 3, 8, None)
    assert entry.heartbeat > entry.created_at


async def test_it_is_gone_when_it_has_ended(runtimes: Runtimes) -> None:
    await runtimes.register(worker("w-1"))
    assert await runtimes.register(worker("w-1", "ended")) is not None
    assert await runtimes.register(worker("w-1", "ended")) is None
    assert await runtimes.entries(limit=10) == []


async def test_without_a_heartbeat_it_is_dead_unless_it_was_idle(database: Database, runtimes: Runtimes) -> None:
    for name, status in (("r", "ready"), ("b", "busy"), ("i", "idle"), ("alive", "busy")):
        await runtimes.register(worker(name, status))
    for name in "rbi":
        await age(database, name, DEAD_AFTER_SECONDS + 1)
    await age(database, "alive", DEAD_AFTER_SECONDS - 10)
    assert await states(runtimes) == {"r": "dead", "b": "dead", "i": "idle", "alive": "busy"}
    assert [entry.name for entry in await runtimes.entries(state="dead", limit=10)] == ["r", "b"]
    await runtimes.heartbeat("worker_pool", "b")
    assert (await states(runtimes))["b"] == "busy", "a heartbeat shows that it lives after all"


async def test_a_pool_is_summed_up_without_its_dead(database: Database, runtimes: Runtimes) -> None:
    await runtimes.register(worker("a", "busy", capacity=8, running=2, version="2"))
    await runtimes.register(worker("b", "ready", capacity=8, running=0, version="1"))
    await runtimes.register(worker("c", "busy", capacity=8, running=8, version="0"))
    await runtimes.register(worker("d", "busy", pool="gpu"))
    await runtimes.register(Instance(kind="gateway", name="g", status="ready"))
    for name in "cd":
        await age(database, name, DEAD_AFTER_SECONDS + 1)
    gpu, io = await runtimes.pools()
    assert (io.pool, io.instances, io.dead, io.capacity, io.running, io.state) == ("io", 2, 1, 16, 2, "busy")
    assert sorted(io.versions) == ["1", "2"]
    assert (gpu.pool, gpu.instances, gpu.dead, gpu.state) == ("gpu", 0, 1, "dead")


async def test_however_many_instances_there_were_those_of_long_ago_are_forgotten(
    database: Database, runtimes: Runtimes
) -> None:
    for number in range(7):
        await runtimes.register(worker(f"w-{number}", "idle"))
    for number in range(5):
        await age(database, f"w-{number}", FORGOTTEN_AFTER_SECONDS + 1)
    assert [await runtimes.prune(3), await runtimes.prune(3), await runtimes.prune(3)] == [3, 2, 0]
    assert set(await states(runtimes)) == {"w-5", "w-6"}


async def test_what_it_says_of_itself_is_bounded(runtimes: Runtimes) -> None:
    with pytest.raises(InvalidRequest, match="at most 16384 bytes"):
        await runtimes.register(worker("w", labels={"x": "y" * 20_000}))


async def test_a_direct_worker_may_register_and_read_nothing(database: Database, postgres_url: str) -> None:
    role = worker_role(postgres_url)
    create_worker_role(postgres_url, role, "one-of-its-own")
    direct = Database(url_as_worker(postgres_url, "one-of-its-own"), 1)
    try:
        assert await Runtimes(direct).register(worker("w-1", "busy")) is not None
        with pytest.raises(Exception, match="permission denied"):
            await Runtimes(direct).entries(limit=1)
    finally:
        await direct.close()
    assert await states(Runtimes(database)) == {"w-1": "busy"}
