"""Commits of one step each: which statement writes them, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.errors import Unavailable
from noetl_serverless.store import database as database_module
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.prepared import Prepared

CHAIN = """
  - step: one
    tool: {kind: noop}
    next: {arcs: [{step: two}]}
  - step: two
    tool: {kind: noop}
    next: {arcs: [{step: three}]}
  - step: three
    tool: {kind: noop}
"""
FORK = """
  - step: one
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: two}, {step: three}]}
  - step: two
    tool: {kind: noop}
  - step: three
    tool: {kind: noop}
"""


class Recorder:
    """Which of the two statements was run, and how often."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        call, run = database.call, database.run

        async def calling(statement: Prepared, values: Any) -> Any:
            self.ran.append("advance")
            return await call(statement, values)

        async def running(sql: str, **params: Any) -> Any:
            if "noetl.commit(" in sql:
                self.ran.append("commit")
            return await run(sql, **params)

        monkeypatch.setattr(database, "call", calling)
        monkeypatch.setattr(database, "run", running)


@pytest.fixture
def engine(database: Database) -> Engine:
    engine = Engine(PostgresEventStore(database))
    engine.catalog.add("t/t", CHAIN)
    engine.catalog.add("t/fork", FORK)
    return engine


@pytest.fixture
def recorder(database: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(database, monkeypatch)


async def run_chain(engine: Engine) -> str:
    id = await engine.start()
    commands = await engine.claim()
    while commands:
        commands = (await engine.report(outcome(commands[0], {"n": 1}), capacity=1)).commands
    return id


async def test_the_steps_of_a_chain_and_its_end_are_written_by_the_lean_statement(
    engine: Engine, recorder: Recorder, database: Database
) -> None:
    id = await run_chain(engine)
    assert recorder.ran == ["advance"] * 4
    state = await engine.orchestrator.state(id)
    assert (state.status, list(state.outcomes)) == ("completed", ["one", "two", "three"])
    columns = "status, finished, head, result, error, ended_at IS NOT NULL"
    rows = await database.run(f"SELECT {columns} FROM noetl.execution WHERE execution_id = :id", id=int(id))
    assert rows == [["COMPLETED", 3, 8, {"data": {"n": 1}}, None, True]]
    assert await database.run("SELECT count(*) FROM noetl.command") == [[0]]
    seqs = await database.run("SELECT seq FROM noetl.event WHERE execution_id = :id ORDER BY seq", id=int(id))
    assert [seq for (seq,) in seqs] == list(range(1, 9))


async def test_what_issues_two_commands_is_written_by_the_general_one(engine: Engine, recorder: Recorder) -> None:
    await engine.start("t/fork")
    (one,) = await engine.claim()
    followers = (await engine.report(outcome(one), capacity=2)).commands
    assert sorted(command.step for command in followers) == ["three", "two"]
    assert recorder.ran == ["advance", "commit"]


async def test_an_execution_that_fails_takes_its_other_commands_along(
    engine: Engine, recorder: Recorder, database: Database
) -> None:
    await engine.start("t/fork")
    (one,) = await engine.claim()
    two, _ = (await engine.report(outcome(one), capacity=1)).commands + await engine.claim()
    error = {"kind": "noop", "code": "x", "message": "no", "retryable": False}
    await engine.report(outcome(two, status="error", error=error))
    assert recorder.ran[-1] == "advance"
    assert await database.run("SELECT count(*) FROM noetl.command") == [[0]]


async def test_of_a_batch_only_what_lost_its_race_is_left_out(engine: Engine, recorder: Recorder) -> None:
    ids = [await engine.start() for _ in range(3)]
    commands = {command.execution_id: command for command in await engine.claim()}
    # another control plane goes on with the second one, without this one's knowledge
    other = engine.another()
    (second,) = (await engine.report(outcome(commands[ids[1]]), capacity=1, by=other)).commands
    await engine.report(outcome(second), by=other)
    answer = await engine.report(*(outcome(commands[id]) for id in ids), capacity=10)
    assert [result.status for result in answer.results] == ["accepted", "stale", "accepted"]
    assert {command.execution_id for command in answer.commands} == {ids[0], ids[2]}


@pytest.mark.parametrize("wrong", ["fence", "worker"])
async def test_a_command_that_is_not_held_refuses_its_execution_alone(
    engine: Engine, recorder: Recorder, database: Database, wrong: str
) -> None:
    ids = [await engine.start() for _ in range(2)]
    commands = {command.execution_id: command for command in await engine.claim()}
    change = "fence = fence + 1" if wrong == "fence" else "worker = 'another'"
    await database.run(f"UPDATE noetl.command SET {change} WHERE execution_id = :id", id=int(ids[0]))
    answer = await engine.report(*(outcome(commands[id]) for id in ids), capacity=10)
    assert [result.status for result in answer.results] == ["stale", "accepted"]
    assert recorder.ran[2:4] == ["advance", "commit"], "the general statement finds out which one it is"
    assert list((await engine.orchestrator.state(ids[0])).outcomes) == []


async def test_a_value_that_cannot_be_stored_quarantines_its_execution_alone(
    engine: Engine, recorder: Recorder
) -> None:
    ids = [await engine.start() for _ in range(2)]
    commands = {command.execution_id: command for command in await engine.claim()}
    bad, good = outcome(commands[ids[0]]), outcome(commands[ids[1]], "fine")
    bad.meta = {"n": 2**70}
    await engine.report(bad, good, capacity=10)
    assert recorder.ran[2:].count("advance") >= 1
    assert (await engine.orchestrator.state(ids[1])).outcomes["one"]["data"] == "fine"


async def test_a_statement_that_the_server_has_forgotten_is_prepared_again(engine: Engine, database: Database) -> None:
    """As when a pooler gives the connection another server."""
    await run_chain(engine)
    for _ in range(8):
        await database.run("DEALLOCATE ALL")
    id = await run_chain(engine)
    assert (await engine.orchestrator.state(id)).status == "completed"


async def test_a_statement_that_the_server_knows_already_is_not_prepared_again(
    engine: Engine, database: Database
) -> None:
    await run_chain(engine)
    for pooled in database._idle:
        pooled.connection._prepared.clear()
    id = await run_chain(engine)
    assert (await engine.orchestrator.state(id)).status == "completed"


async def test_a_server_that_never_knows_the_statement_is_given_up(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MAX_PREPARE_ATTEMPTS", 3)
    statement = Prepared("SELECT 1", (int,))
    for _ in range(4):
        await database.call(statement, [])
    forget = "DEALLOCATE ALL"
    for pooled in database._idle:
        monkeypatch.setattr(pooled.connection, "is_other_server", lambda *_: True)
    await database.run(forget)
    with pytest.raises(Unavailable, match="lost a prepared statement 3 times"):
        await database.call(statement, [])
