"""Executions on both sides of a month's end, and months that nobody has prepared."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.concurrency.harness import Harness, Plane, done
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.engine import events as e
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.store.migrate import migrate

CHAIN = """
workflow:
  - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: noop}}
"""
ENSURE = "SELECT noetl.create_partitions(CAST(:at AS timestamptz))"
PLACES = """
    SELECT DISTINCT c.relname::text FROM noetl.event e JOIN pg_class c ON c.oid = e.tableoid WHERE execution_id = :id"""
MADE = "SELECT relname::text FROM pg_class WHERE relname = :name AND relispartition"
# the migrations have prepared as many months, with this one
PREPARED = 3
NOW = datetime.now(UTC)


def month(months: int) -> datetime:
    """The first instant of a month after this one."""
    count = NOW.year * 12 + NOW.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def partition(start: datetime) -> str:
    return f"event_{start:%Y_%m}"


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """A database of its own for each test: they leave partitions behind."""
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    url = postgres_server.url_of(name)
    migrate(url)
    return url


class Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> int:
        return int(self.at.timestamp() * 1000)


async def one(harness: Harness, clock: Clock) -> tuple[Plane, str]:
    """A control plane by that clock, and an execution that has begun and waits for its first step."""
    await harness.add("t/chain", CHAIN)
    plane = Plane(harness.url, harness.bus, clock)
    harness.planes.append(plane)
    return plane, (await plane.orchestrator.start(path="t/chain")).execution_id


async def finish(harness: Harness, plane: Plane, id: str) -> None:
    while not await harness.ended([id]):
        commands = [command for command in await plane.claim() if command.execution_id == id]
        for command in commands:
            assert await plane.tell(command) == "accepted"


async def test_an_execution_stays_in_the_month_of_its_start(direct: Harness, sessions: Sessions) -> None:
    end = month(1)
    clock = Clock(end - timedelta(milliseconds=1))
    plane, before = await one(direct, clock)
    clock.at = end
    after = (await plane.orchestrator.start(path="t/chain")).execution_id
    for command in await plane.claim():
        follow = (await plane.report(done(command), capacity=1)).commands
        assert await plane.tell(follow[0]) == "accepted"

    assert sessions.ask(PLACES, id=before) == [[partition(month(0))]]
    assert sessions.ask(PLACES, id=after) == [[partition(end)]]
    assert direct.findings() == []


async def test_a_month_that_nobody_has_prepared_is_written_all_the_same(direct: Harness, sessions: Sessions) -> None:
    plane, id = await one(direct, Clock(month(PREPARED)))
    await finish(direct, plane, id)
    assert sessions.ask(PLACES, id=id) == [["event_default"]]
    assert len(await direct.events(id, e.COMPLETED)) == 1


@pytest.mark.parametrize("behind", [PREPARED, PREPARED + 1])
async def test_a_month_that_has_begun_without_its_partition_gets_it(
    direct: Harness, sessions: Sessions, behind: int
) -> None:
    """Nobody kept house for `behind` months; the first pass after that starts something before it does."""
    late = month(behind) + timedelta(days=3)
    plane, id = await one(direct, Clock(late))

    sessions.ask(ENSURE, at=late)
    await finish(direct, plane, id)

    assert sessions.ask(PLACES, id=id) == [[partition(month(behind))]], "its rows block the partition of its month"
    sessions.ask(ENSURE, at=late)
    sessions.ask(ENSURE, at=late + timedelta(days=31))
    assert sessions.ask("SELECT count(*) FROM noetl.event_default") == [[0]]
    assert direct.findings() == []


async def test_a_month_that_another_is_making_is_waited_for(direct: Harness, sessions: Sessions) -> None:
    late = month(6)
    another, keeper = sessions.begin(), sessions.begin()
    # it is about to make it
    another.run("SELECT pg_advisory_xact_lock(4215077392)")
    # by itself: a deadlock would be tried again, and not be seen
    keeping = await sessions.until_waiting(asyncio.to_thread(keeper.run, ENSURE, at=late))
    assert not keeping.done()
    another.run(ENSURE, at=late)
    another.run("COMMIT")
    await keeping
    keeper.run("COMMIT")
    assert sessions.ask(MADE, name=partition(late)) == [[partition(late)]]
    assert sessions.ask(MADE, name=partition(month(7))) == [[partition(month(7))]]


async def test_a_month_is_made_while_others_commit(direct: Harness, sessions: Sessions) -> None:
    late = month(6)
    plane, id = await one(direct, Clock(month(0)))
    keeping = direct.keepers[0].database.run(ENSURE, at=late.isoformat())
    await asyncio.gather(finish(direct, plane, id), keeping)
    assert sessions.ask(MADE, name=partition(late)) == [[partition(late)]]
    assert direct.findings() == []
