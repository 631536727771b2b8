"""Rows of limits against the log, rebuilt from it, and forgotten when nobody needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.integration.store.test_limits import begin, claim, end, plan_of

from noetl_serverless.inspection.limit_text import limits_text
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.executions import Executions
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.store.replays import Replays

MADE = plan_of("concurrency: {key: api, limit: 2}", ", concurrency: {key: runs, limit: 1}, rate: {per: 0.01, limit: 9}")
STATUS = "SELECT status, count(*)::integer FROM noetl.command GROUP BY status ORDER BY status"


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 2)
    yield database
    await database.close()


async def test_rows_with_limits_agree_with_the_log_and_are_rebuilt_from_it(database: Database) -> None:
    log, replays = PostgresEventStore(database), Replays(database)
    first, second = [int((await begin(log, MADE))[0]) for _ in range(2)]
    assert len(await claim(log)) == 2
    assert [await replays.validate(id) for id in (first, second)] == [[], []]
    assert (await replays.rebuild(first, MADE[1])).leases == 2
    await replays.rebuild(second, MADE[1])
    assert [await replays.validate(id) for id in (first, second)] == [[], []]
    assert await database.run(STATUS) == [["limited", 8]], "they wait for their limits again"
    # the execution that has begun goes on, and the other one still waits for it
    assert {lease.execution_id for lease in await claim(log)} == {str(first)}


async def test_it_is_said_what_a_step_waits_for(database: Database) -> None:
    log, executions = PostgresEventStore(database), Executions(database)
    first, second = [int((await begin(log, MADE))[0]) for _ in range(2)]
    await claim(log)
    [own] = await executions.outstanding(first)
    assert (own.running, own.queued) == (2, 2)
    assert limits_text(own.limits or ()) == "concurrency of key api: 2 of 2 commands running"
    [other] = await executions.outstanding(second)
    assert "concurrency of key runs: 1 of 1 executions running" in limits_text(other.limits or ())
    commands = (await Replays(database).recording(second)).commands
    assert {limits_text(row["limits"]) for row in commands} == {limits_text(other.limits or ())}


async def test_what_has_ended_is_forgotten(database: Database) -> None:
    log, tasks = PostgresEventStore(database), MaintenanceTasks(database)
    made = plan_of("rate: {per: 0.01, limit: 9}", ", concurrency: {limit: 1}", items="[1]")
    await begin(log, made)
    for _ in range(2):
        [lease] = await claim(log)
        await end(log, made[1], lease)
    await database.run("SELECT pg_sleep(0.02)")
    assert await tasks.prune_limits(100) == 1, "the start of its only limited command"
    counted = "SELECT (SELECT count(*) FROM noetl.begun), (SELECT count(*) FROM noetl.rate_start)"
    assert await database.run(counted) == [[0, 0]]
