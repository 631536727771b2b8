"""What a newer release has written is left to it, and nothing else is: over the log in memory, and over PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome
from tests.unit.orchestrator.quarantined import CHAIN, CHILD, status, types, work

from noetl_serverless.errors import Busy
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.testing.event_store import MemoryEventStore

NEWER = 99


@pytest.fixture
def engine(either: Engine) -> Engine:
    return either


async def of_form(engine: Engine, id: str, form: int) -> Orchestrator:
    """Another instance, which finds the state in this version."""
    if isinstance(engine.log, MemoryEventStore):
        engine.log.executions[id].form = form
    else:
        sql = "UPDATE noetl.execution SET state_version = CAST(:form AS smallint) WHERE execution_id = :id"
        await engine.postgres._database.run(sql, form=form, id=int(id))
    return engine.another()


async def two(engine: Engine) -> tuple[str, str]:
    engine.catalog.add("t/newer", CHAIN)
    engine.catalog.add("t/own", CHILD)
    return await engine.start("t/newer"), await engine.start("t/own")


async def test_one_of_many_that_a_newer_release_has_written_keeps_no_other_from_being_loaded(engine: Engine) -> None:
    newer, own = await two(engine)
    await of_form(engine, newer, NEWER)
    (cases,) = await asyncio.gather(engine.log.load([newer, own]), return_exceptions=True)
    assert not isinstance(cases, BaseException)
    assert [cases[id].is_from_newer_release for id in (newer, own)] == [True, False]
    assert cases[own].read_error is None


async def test_its_commands_are_given_back_and_others_are_handed_out(engine: Engine) -> None:
    newer, _ = await two(engine)
    older = await of_form(engine, newer, NEWER)
    for _ in range(3):
        engine.orchestrator = older
        commands = await engine.claim()
        assert newer not in {command.execution_id for command in commands}
    await of_form(engine, newer, 1)
    engine.orchestrator = engine.another()
    (command,) = await engine.claim()
    assert (command.execution_id, command.delivery) == (newer, 1), "nothing was delivered before"


async def test_a_report_for_it_changes_nothing_and_others_go_on(engine: Engine) -> None:
    newer, own = await two(engine)
    commands = {command.execution_id: command for command in await engine.claim()}
    before = await types(engine, newer)
    older = await of_form(engine, newer, NEWER)
    answer = await engine.report(outcome(commands[newer]), outcome(commands[own]), by=older)
    assert [result.status for result in answer.results] == ["stale", "accepted"]
    assert await status(engine, own) == "completed"
    assert (await types(engine, newer), await engine.orchestrator.quarantined_executions(10)) == (before, []), (
        "it is not set apart"
    )
    await of_form(engine, newer, 1)
    assert (await engine.report(outcome(commands[newer]), by=engine.another())).results[0].status == "accepted"


async def test_its_timers_and_its_inbox_are_left_to_the_newer_release(engine: Engine) -> None:
    newer, _ = await two(engine)
    (first, _) = sorted(await engine.claim(), key=lambda command: command.execution_id != newer)
    await engine.report(outcome(first, status="deferred", delay=1.0))
    engine.seconds += 2
    (timer,) = (await engine.log.load([newer]))[newer].state.timers
    older = await of_form(engine, newer, NEWER)
    with pytest.raises(Busy, match="written by a newer release"):
        await older.fire_timer(newer, timer, "a", 1)
    with pytest.raises(Busy, match="written by a newer release"):
        await older.process_inbox(newer)
    assert await engine.orchestrator.quarantined_executions(10) == []
    able = await of_form(engine, newer, 1)
    assert await able.fire_timer(newer, timer, "a", 1)
    engine.orchestrator = able
    assert await work(engine) == ["a#1@2", "b#1", "c#1"]


async def test_it_can_be_cancelled(engine: Engine) -> None:
    newer, _ = await two(engine)
    older = await of_form(engine, newer, NEWER)
    assert await older.controls.cancel(newer, "enough") == ("cancelled", [newer])
    await of_form(engine, newer, 1)
    assert await status(engine, newer) == "cancelled"


async def test_a_state_that_earlier_releases_cannot_fold_is_written_once(engine: Engine) -> None:
    """Else each of many waits would write all others again."""
    text = (
        "- {step: each, loop: {in: [1, 2, 3], iterator: n, spec: {mode: parallel}}, tool: {kind: wait, signal: ok}}\n"
    )
    engine.catalog.add("t/t", text)
    id = await engine.start()
    snapshots = []
    for command in await engine.claim():
        await engine.report(outcome(command, status="parked", wait={"signal": "ok"}, resume={}))
        snapshots.append((await engine.log.load([id]))[id].snapshot)
    assert len(snapshots) == 3
    assert len(set(snapshots)) == 1, "each wait has written the whole state"
