"""Out of quarantine: cancelled, retried, dropped; over the log in memory, and over PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Decide, Engine, outcome
from tests.unit.orchestrator.quarantined import (
    CHAIN,
    CHILD,
    FORK,
    TIMED,
    Faulty,
    Mistake,
    into_quarantine,
    parallel_to_a_child,
    parked,
    spoil,
    status,
    types,
    work,
)

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Conflict, NotFound
from noetl_serverless.orchestrator.commits import Commits
from noetl_serverless.records import CommitResult, ExecutionCommit, ReportedFact, UnstorableCommit
from noetl_serverless.testing.event_store import MemoryEventStore


@pytest.fixture
def engine(either: Engine) -> Engine:
    return either


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with pytest.MonkeyPatch.context() as patch:
        yield Faulty(patch)


async def test_it_can_be_cancelled(engine: Engine, faulty: Faulty) -> None:
    id = await into_quarantine(engine, faulty)
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("cancelled", [id])
    assert await status(engine, id) == "cancelled"
    assert await engine.orchestrator.quarantined_executions(10) == []
    assert await engine.orchestrator.controls.cancel(id, "again") == ("already_completed", [])
    with pytest.raises(Conflict, match="not in quarantine"):
        await engine.orchestrator.retry_quarantined(id)


async def test_a_retry_goes_on_as_it_would_have(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", FORK)
    data = {"b": {"n": 1}, "other": {"n": 2}, "join": {"n": 3}}
    unhurt = await engine.start()
    await work(engine, **data)
    id = await engine.start()
    faulty.at("b")
    (split,) = await engine.claim()
    b, other = (await engine.report(outcome(split), capacity=10)).commands
    await engine.report(outcome(b, data["b"]))
    assert (await engine.report(outcome(other, data["other"]))).results[0].status == "stale", "nothing is out any more"
    faulty.mend()
    state = await engine.orchestrator.retry_quarantined(id)
    assert (state.status, state.ctx) == ("running", {"b": {"n": 1}}), "what was reported was kept"
    assert await work(engine, **data) == ["other#1", "join#1"], "what was out is out again, what was reported is not"
    ended, expected = [(await engine.log.load([each]))[each].state for each in (id, unhurt)]
    assert ended.status == "completed"
    assert (ended.ctx, list(ended.outcomes)) == (expected.ctx, list(expected.outcomes))
    for step in data:
        assert ended.outcomes[step]["data"] == expected.outcomes[step]["data"]
    assert await engine.orchestrator.quarantined_executions(10) == []
    assert (await types(engine, id)).count("execution.retried") == 1


async def test_a_retry_while_the_fault_stands_sets_it_apart_again_with_what_was_kept(
    engine: Engine, faulty: Faulty
) -> None:
    id = await into_quarantine(engine, faulty)
    faulty.at("b")
    assert (await engine.orchestrator.retry_quarantined(id)).quarantined
    faulty.mend()
    assert [fact["command"] for fact in (await engine.orchestrator.quarantined_execution(id)).facts] == ["b#1"]
    seq = (await engine.orchestrator.quarantined_execution(id)).seq
    await engine.orchestrator.retry_quarantined(id)
    *_, retried = [event for event in await engine.log.events(id) if event.type == e.RETRIED]
    assert retried.payload == {"seq": seq}
    assert await work(engine) == ["c#1"]
    assert await status(engine, id) == "completed"


async def test_a_retry_takes_in_children_that_ended_meanwhile(engine: Engine, faulty: Faulty) -> None:
    id, child, only = await parallel_to_a_child(engine, faulty)
    await engine.report(outcome(only))
    assert await status(engine, child) == "completed", "its children go on"
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    assert await work(engine) == ["after#1"]
    assert await status(engine, id) == "completed"


async def test_it_does_not_go_on_while_a_child_that_ended_cannot_be_read(engine: Engine, faulty: Faulty) -> None:
    id, child, only = await parallel_to_a_child(engine, faulty)
    await engine.report(outcome(only))
    faulty.mend()
    other = await spoil(engine, child)
    with pytest.raises(Conflict, match=f"the state of its child {child} cannot be read"):
        await other.retry_quarantined(id)
    assert [row.execution_id for row in await engine.orchestrator.quarantined_executions(10)] == [id], (
        "all that was kept stays"
    )


async def test_dropping_leaves_it_failed_and_ends_its_children(engine: Engine, faulty: Faulty) -> None:
    id, child, _ = await parallel_to_a_child(engine, faulty)
    await engine.orchestrator.drop_quarantined(id)
    assert (await status(engine, id), await status(engine, child)) == ("failed", "cancelled")
    assert await engine.orchestrator.quarantined_executions(10) == []
    with pytest.raises(Conflict, match="not in quarantine"):
        await engine.orchestrator.retry_quarantined(id)
    assert await status(engine, id) == "failed"
    with pytest.raises(NotFound, match="not in quarantine"):
        await engine.orchestrator.drop_quarantined(id)


async def test_the_log_records_when_and_by_whom_it_was_dropped(engine: Engine, faulty: Faulty) -> None:
    id = await into_quarantine(engine, faulty)
    await engine.orchestrator.drop_quarantined(id, {"kind": "user", "name": "ada"})
    *_, failed, dropped = await engine.log.events(id)
    assert (dropped.type, dropped.cause, dropped.seq) == (e.DROPPED, None, failed.seq + 1)
    assert dropped.payload == {"seq": failed.seq, "by": {"kind": "user", "name": "ada"}}
    if isinstance(engine.log, MemoryEventStore):
        assert engine.log.executions[id].ended_at == failed.at, "it ended when it went into quarantine"


async def test_what_was_dropped_is_not_cancelled_any_more(engine: Engine, faulty: Faulty) -> None:
    id = await into_quarantine(engine, faulty)
    await engine.orchestrator.drop_quarantined(id)
    before = await types(engine, id)
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("already_completed", [])
    assert (await status(engine, id), await types(engine, id)) == ("failed", before)


async def test_what_is_not_in_quarantine_is_neither_retried_nor_dropped(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    with pytest.raises(Conflict):
        await engine.orchestrator.retry_quarantined(id)
    for ask in (engine.orchestrator.drop_quarantined, engine.orchestrator.quarantined_execution):
        with pytest.raises(NotFound):
            await ask(id)
    with pytest.raises(NotFound):
        await engine.orchestrator.retry_quarantined("404")


# -- what was kept


@pytest.fixture
def unfollowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in an inbox stays there until somebody asks."""

    async def follow(self: Commits, ids: Any) -> None:
        return

    monkeypatch.setattr(Commits, "process_inboxes", follow)


async def parallel_to_another(engine: Engine, faulty: Faulty) -> tuple[str, Any]:
    """An execution in quarantine for its step b, and what its step other was told before, left in the inbox."""
    engine.catalog.add("t/t", FORK)
    id = await engine.start()
    (split,) = await engine.claim()
    b, other = (await engine.report(outcome(split), capacity=10)).commands
    fact = Event(
        e.CALL_DONE,
        int(engine.seconds * 1000),
        step="other",
        generation=1,
        command_id="other#1",
        payload={"data": {"n": 2}},
    )
    assert await engine.log.append_to_inbox(
        [ReportedFact(execution_id=id, event=fact, fence=other.fence, worker="w-1", refs=[])]
    )
    faulty.at("b")
    await engine.report(outcome(b, {"n": 1}))
    return id, other


async def kept(engine: Engine, id: str) -> list[str]:
    return [fact["command"] for fact in (await engine.orchestrator.quarantined_execution(id)).facts]


async def out(engine: Engine, id: str) -> list[str]:
    """The rows of commands and timers."""
    if isinstance(engine.log, MemoryEventStore):
        return sorted(command for execution, command in engine.log.commands if execution == id)
    sql = "SELECT command_id FROM noetl.command WHERE execution_id = :id ORDER BY command_id"
    return [row[0] for row in await engine.postgres._database.run(sql, id=int(id))]


async def test_what_waits_in_the_inbox_is_kept_too(engine: Engine, faulty: Faulty) -> None:
    id, _ = await parallel_to_another(engine, faulty)
    await engine.orchestrator.process_inbox(id)
    assert await kept(engine, id) == ["b#1", "other#1"]
    assert await engine.log.executions_with_inbox(10) == []
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    assert await work(engine) == ["join#1"], "neither is done again"
    state = (await engine.log.load([id]))[id].state
    assert (state.status, state.outcomes["other"]["data"]) == ("completed", {"n": 2})


async def test_what_a_retry_gave_back_is_kept_when_something_else_cannot_be_decided_first(
    engine: Engine, faulty: Faulty, unfollowed: None
) -> None:
    engine.catalog.add("t/t", FORK)
    id = await engine.start()
    faulty.at("b")
    (split,) = await engine.claim()
    b, _ = (await engine.report(outcome(split), capacity=10)).commands
    await engine.report(outcome(b, {"n": 1}))
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    faulty.at("other")
    (other,) = await engine.claim()
    await engine.report(outcome(other))
    await engine.orchestrator.process_inbox(id)
    assert await kept(engine, id) == ["other#1", "b#1"]


async def test_a_retry_that_cannot_be_decided_itself_changes_nothing(engine: Engine, faulty: Faulty) -> None:
    id = await into_quarantine(engine, faulty)
    before = await types(engine, id)
    with pytest.MonkeyPatch.context() as patch:

        def broken(decider: decide.Decider) -> None:
            raise Mistake("nothing goes on")

        patch.setitem(decide.DECIDE, e.RETRIED, broken)
        with pytest.raises(Conflict, match=r"still cannot continue: .*nothing goes on"):
            await engine.orchestrator.retry_quarantined(id)
    assert (await kept(engine, id), await types(engine, id)) == (["b#1"], before)
    await engine.orchestrator.retry_quarantined(id)
    assert await work(engine) == ["c#1"]


async def test_a_timer_that_has_fired_is_not_set_again(engine: Engine, faulty: Faulty, unfollowed: None) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first, status="deferred", delay=1.0))
    (timer,) = await out(engine, id)
    engine.seconds += 2
    faulty.at("a", e.TIMER_FIRED)
    assert await engine.orchestrator.fire_timer(id, timer, "a", 1)
    assert await out(engine, id) == []
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    assert await out(engine, id) == [], "its firing was kept"
    await engine.orchestrator.process_inbox(id)
    assert await work(engine) == ["a#1@2", "b#1", "c#1"]
    assert await status(engine, id) == "completed"


async def test_what_was_out_is_out_again_however_long_the_log_is(
    engine: Engine, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", TIMED)
    id = await engine.start()
    (split,) = await engine.claim()
    b, other, timed = (await engine.report(outcome(split), capacity=10)).commands
    await engine.report(outcome(timed, status="deferred", delay=3600.0), capacity=0)
    before = [command for command in await out(engine, id) if command != "b#1"]
    faulty.at("b")
    await engine.report(outcome(b))
    faulty.mend()

    async def events(execution_id: str) -> list[Event]:
        raise AssertionError("a log may be too long to be read as a whole")

    monkeypatch.setattr(engine.log, "events", events)
    await engine.orchestrator.retry_quarantined(id)
    assert await out(engine, id) == before == ["other#1", "timed#1!7"]
    (again,) = await engine.claim()
    assert (again.command_id, again.scope) == (other.command_id, other.scope)


async def test_the_end_of_a_child_that_was_kept_is_reported_once(
    engine: Engine, faulty: Faulty, unfollowed: None
) -> None:
    id, b = await parked(engine, CHILD)
    (only,) = await engine.claim()
    await engine.report(outcome(only))
    faulty.at("b")
    await engine.report(outcome(b))
    facts = (await engine.orchestrator.quarantined_execution(id)).facts
    assert sorted(fact["type"] for fact in facts) == [e.CALL_DONE, e.CHILD_ENDED]
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    while await engine.orchestrator.process_inbox(id):
        pass
    assert await work(engine) == ["after#1"]
    assert (await types(engine, id)).count(e.CHILD_ENDED) == 1


async def test_a_child_that_ended_meanwhile_gives_the_step_that_was_asked_for(engine: Engine, faulty: Faulty) -> None:
    id, b = await parked(engine, CHAIN, return_step="a")
    (a,) = await engine.claim()
    faulty.at("b")
    await engine.report(outcome(b))
    faulty.mend()
    commands = [a]
    while commands:
        commands = (await engine.report(outcome(commands[0], commands[0].step), capacity=1)).commands
    await engine.orchestrator.retry_quarantined(id)
    (ended,) = [event for event in await engine.log.events(id) if event.type == e.CHILD_ENDED]
    assert ended.payload["data"] == "a"


async def test_what_cannot_be_stored_as_it_would_go_on_stays_in_quarantine(
    engine: Engine, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await into_quarantine(engine, faulty)

    async def unwritable(execution_id: str, decide: Decide) -> tuple[ExecutionCommit, CommitResult] | None:
        raise UnstorableCommit("half of a pair")

    with monkeypatch.context() as patch:
        patch.setattr(engine.log, "commit_exclusively", unwritable)
        with pytest.raises(Conflict, match="cannot be stored with what follows: half of a pair"):
            await engine.orchestrator.retry_quarantined(id)
    assert [row.execution_id for row in await engine.orchestrator.quarantined_executions(10)] == [id]


@pytest.mark.parametrize("operation", ["retry", "drop"])
async def test_who_takes_an_execution_out_of_quarantine_waits_for_who_is_at_it(
    engine: Engine, faulty: Faulty, operation: str
) -> None:
    id = await into_quarantine(engine, faulty)
    faulty.mend()
    orchestrator = engine.orchestrator
    take_out = orchestrator.retry_quarantined if operation == "retry" else orchestrator.drop_quarantined
    async with orchestrator._commits.cache.exclusive([id]):
        taking = asyncio.create_task(take_out(id))
        await asyncio.sleep(0.1)
        assert len(await orchestrator.quarantined_executions(10)) == 1, "what is cached and what is written may differ"
    await asyncio.wait_for(taking, 10)
    assert await orchestrator.quarantined_executions(10) == []
