"""A command that is all its execution waits for is leased in the execution's row, until it needs a row of its own."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.protocol import ClaimedCommand, Held
from noetl_serverless.records import Claimant
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.executions import Executions
from noetl_serverless.store.replays import Replays

LINE = """
  - {step: x, tool: {kind: noop}, next: {arcs: [{step: y}]}}
  - {step: y, tool: {kind: noop}, next: {arcs: [{step: x}]}}
"""
FORK = """
  - step: a
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}
  - {step: b, tool: {kind: noop}, next: {arcs: [{step: d}]}}
  - {step: c, tool: {kind: noop}}
  - {step: d, tool: {kind: noop}}
"""
ROWS = "SELECT command_id, status, deliveries, worker FROM noetl.command ORDER BY command_id"
DIRECT = (
    "SELECT direct_command, direct_worker FROM noetl.execution WHERE direct_worker IS NOT NULL ORDER BY execution_id"
)
RUN_OUT = "UPDATE noetl.execution SET direct_lease = '-1 s' RETURNING 1"
WRITTEN = """
    SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del FROM pg_stat_user_tables
    WHERE schemaname = 'noetl' AND (relname IN ('execution', 'command') OR relname LIKE 'event%')"""
OLDER = {
    "commit": "SELECT noetl.commit('[]'::jsonb, '[]', '[]', '[]', '[]', '[]', '[]', '[]', '[]')",
    "append": "SELECT noetl.append('[]'::jsonb)",
    "claim": "SELECT count(*) FROM noetl.claim('w', 'shared', 30, 0, NULL::jsonb)",
    "held": "SELECT count(*) FROM noetl.held('nobody', 30, '[]'::jsonb)",
    "ensure_partitions": "SELECT noetl.ensure_partitions(now())",
}


@pytest.fixture
def engine(database: Database) -> Engine:
    engine = Engine(PostgresEventStore(database))
    engine.catalog.add("t/t", LINE)
    engine.catalog.add("t/fork", FORK)
    return engine


async def handed_over(engine: Engine) -> ClaimedCommand:
    """`y` of a new execution, leased directly to w-1."""
    id = await engine.start()
    (first,) = [command for command in await engine.claim() if command.execution_id == id]
    (second,) = (await engine.report(outcome(first), capacity=1)).commands
    return second


def held(command: ClaimedCommand) -> list[Held]:
    return [Held.of(command)]


async def written(database: Database) -> dict[str, list[int]]:
    """Row versions by kind of table: inserted, updated, updated within the page, deleted."""
    await database.run("SELECT pg_stat_force_next_flush()")
    await database.run("SELECT pg_stat_clear_snapshot()")
    sums: dict[str, list[int]] = {}
    for name, *counts in await database.run(WRITTEN):
        kind = name.split("_")[0]
        sums[kind] = [a + b for a, b in zip(sums.get(kind, [0] * 4), counts, strict=True)]
    return sums


async def test_a_step_that_goes_straight_on_writes_its_events_and_the_row_of_its_execution_alone(
    engine: Engine, postgres_url: str
) -> None:
    database = Database(postgres_url, 1)
    engine.log = PostgresEventStore(database)
    engine.orchestrator = engine.another()
    command = await handed_over(engine)
    before = await written(database)
    for _ in range(20):
        (command,) = (await engine.report(outcome(command), capacity=1)).commands
    after = await written(database)
    await database.close()
    changes = {name: [b - a for a, b in zip(before[name], after[name], strict=True)] for name in after}
    assert changes == {"execution": [0, 20, 20, 0], "event": [40, 0, 0, 0], "command": [0, 0, 0, 0]}


async def test_what_has_others_beside_it_is_leased_by_a_row(engine: Engine, database: Database) -> None:
    await engine.start("t/fork")
    (a,) = await engine.claim()
    b, c = sorted((await engine.report(outcome(a), capacity=2)).commands, key=lambda command: command.step)
    (d,) = (await engine.report(outcome(b), capacity=1)).commands
    assert await database.run(DIRECT) == []
    assert [row[0] for row in await database.run(ROWS)] == [c.command_id, d.command_id]


async def test_an_execution_can_begin_with_a_direct_lease(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = engine.postgres.commit
    claimant = Claimant("w-1", "shared", 30.0, 1)
    monkeypatch.setattr(engine.postgres, "commit", lambda commits, _: commit(commits, claimant))
    await engine.start()
    assert await database.run(DIRECT) == [["x#1", "w-1"]]
    assert await database.run(ROWS) == []


@pytest.mark.parametrize("wrong", ["fence", "worker", "command"])
async def test_only_the_report_of_its_holder_counts(engine: Engine, database: Database, wrong: str) -> None:
    command = await handed_over(engine)
    given = outcome(command)
    if wrong == "fence":
        given.fence -= 1
    if wrong == "command":
        given.command_id = "x#1"
    answer = await engine.report(given, worker="another" if wrong == "worker" else "w-1")
    assert [result.status for result in answer.results] == ["stale"]
    assert (await engine.report(outcome(command))).results[0].status == "accepted"


async def test_a_direct_lease_that_ran_out_goes_to_another_worker_with_a_note_of_the_first(
    engine: Engine, database: Database
) -> None:
    first = await handed_over(engine)
    assert not (await engine.log.pending_work(60.0)).has_expired_leases
    await database.run(RUN_OUT)
    assert (await engine.log.pending_work(60.0)).has_expired_leases
    assert [key.command_id for _, key in await engine.log.expire_leases(5, 10)] == ["y#1"]
    assert not (await engine.log.pending_work(60.0)).has_expired_leases
    (second,) = await engine.claim(worker="w-2")
    assert second.fence > first.fence
    assert [(lost["worker"], lost["delivery"]) for lost in second.lost or ()] == [("w-1", 1)]
    assert (await engine.report(outcome(first))).results[0].status == "stale"
    assert await engine.log.extend_leases("w-1", held(first), 30.0) == set()
    assert (await engine.report(outcome(second), worker="w-2")).results[0].status == "accepted"


async def test_a_direct_lease_may_be_the_last_delivery(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    await database.run(RUN_OUT)
    (dead,) = await engine.log.undeliverable(1, 10)
    assert (dead.command_id, dead.fence, dead.worker, dead.deliveries) == ("y#1", command.fence, "w-1", 1)
    assert await engine.log.undeliverable(2, 10) == []


async def test_an_extension_leaves_a_direct_lease_in_its_place(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    await database.run(RUN_OUT)
    names = (command.execution_id, command.command_id, command.fence)
    assert await engine.log.extend_leases("w-1", held(command), 30.0) == {names}
    assert await database.run(DIRECT) == [["y#1", "w-1"]]
    assert not (await engine.log.pending_work(60.0)).has_expired_leases


async def test_what_is_given_back_waits_again(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    assert await engine.log.release_leases("w-2", held(command)) == []
    assert await database.run(DIRECT) == [["y#1", "w-1"]]
    assert [key.command_id for _, key in await engine.log.release_leases("w-1", held(command))] == ["y#1"]
    assert await database.run(ROWS) == [["y#1", "pending", 0, None]]


async def test_a_worker_finds_again_what_it_was_handed_over(engine: Engine) -> None:
    command = await handed_over(engine)
    (lease,) = await engine.log.recover_leases("w-1", 30.0, [])
    assert (lease.command_id, lease.fence) == (command.command_id, command.fence)
    assert await engine.log.recover_leases("w-2", 30.0, []) == []


async def test_a_direct_lease_is_shown_like_any_other(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    (running,) = await Executions(database).outstanding(int(command.execution_id))
    assert (running.step, running.running, running.queued, running.worker) == ("y", 1, 0, "w-1")
    assert await Replays(database).validate(int(command.execution_id)) == []


async def test_a_rebuild_takes_a_direct_lease_away(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    rebuilt = await Replays(database).rebuild(int(command.execution_id))
    assert (rebuilt.differences, rebuilt.leases) == ([], 1)
    assert await database.run(ROWS) == [["y#1", "pending", 0, None]]
    assert (await engine.report(outcome(command))).results[0].status == "stale"


async def test_a_cancellation_ends_it(engine: Engine, database: Database) -> None:
    command = await handed_over(engine)
    await engine.orchestrator.controls.cancel(command.execution_id, "enough")
    assert (await database.run(DIRECT), await database.run(ROWS)) == ([], [])
    assert (await engine.report(outcome(command))).results[0].status == "stale"


async def test_a_playbook_with_a_direct_lease_counts_as_one_that_runs(engine: Engine, database: Database) -> None:
    """The first turn is another playbook's, whatever the draw."""
    engine.catalog.add("t/other", LINE)
    await handed_over(engine)
    ids = [await engine.start(), await engine.start("t/other")]
    for _ in range(12):
        (command,) = await engine.claim(limit=1, worker="w-2")
        assert command.execution_id == ids[1], "the playbook of which a command runs came first"
        await engine.log.release_leases("w-2", held(command))


# -- beside the release before


@pytest.mark.parametrize("call", OLDER)
async def test_the_release_before_finds_all_leases_among_the_rows(
    engine: Engine, database: Database, call: str
) -> None:
    command = await handed_over(engine)
    await database.run(OLDER[call])
    assert await database.run(DIRECT) == []
    assert await database.run(ROWS) == [["y#1", "claimed", 1, "w-1"]]
    (command,) = (await engine.report(outcome(command), capacity=1)).commands
    assert await database.run(DIRECT) == [], "it may be about to look for it"
    await database.run("UPDATE noetl.older_release SET seen_at = now() - interval '3 hours'")
    await engine.report(outcome(command), capacity=1)
    assert await database.run(DIRECT) == [["y#2", "w-1"]]


async def test_calls_of_the_release_before_wait_for_no_execution(
    engine: Engine, database: Database, postgres_url: str
) -> None:
    command = await handed_over(engine)
    other = await handed_over(engine)
    row = "SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE"

    with closing(connect(postgres_url)) as holder:
        holder.run("BEGIN")
        holder.run(row, id=int(command.execution_id))
        async with asyncio.timeout(20):
            await database.run(OLDER["ensure_partitions"])
    assert await database.run(DIRECT) == [["y#1", "w-1"]]
    assert [row[0] for row in await database.run("SELECT execution_id FROM noetl.command")] == [int(other.execution_id)]
