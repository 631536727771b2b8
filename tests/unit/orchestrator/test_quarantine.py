"""What cannot be decided is set apart, and nothing else is: over the log in memory, and over PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from tests.counted import counted
from tests.unit.orchestrator.conftest import Engine, outcome
from tests.unit.orchestrator.quarantined import (
    CALL,
    CALLS,
    CHAIN,
    CHILD,
    Faulty,
    Mistake,
    into_quarantine,
    spoil,
    status,
    types,
    work,
)

from noetl_serverless.commands.fact import fact_of
from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.errors import Conflict, Fault, InvalidPlaybook, InvalidRequest
from noetl_serverless.orchestrator import children, reports
from noetl_serverless.telemetry import metrics
from noetl_serverless.testing.event_store import MemoryEventStore

FORK = """
- {step: first, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}}
- {step: left, tool: {kind: noop}}
- {step: right, tool: {kind: noop}}
"""


@pytest.fixture
def engine(either: Engine) -> Engine:
    return either


async def weights(engine: Engine) -> list[int]:
    """Of all commands that are out."""
    if isinstance(engine.log, MemoryEventStore):
        return [row.row["weight"] for row in engine.log.commands.values()]
    return [weight for (weight,) in await engine.postgres._database.run("SELECT weight FROM noetl.command")]


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with pytest.MonkeyPatch.context() as patch:
        yield Faulty(patch)


# -- into it


async def test_what_cannot_be_decided_sets_one_execution_apart_and_its_report_is_accepted(
    engine: Engine, faulty: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    engine.catalog.add("t/bad", CHAIN)
    engine.catalog.add("t/good", CHAIN.replace("step: b,", "step: x,").replace("step: b}", "step: x}"))
    bad, good = await engine.start("t/bad"), await engine.start("t/good")
    faulty.at("b")
    counter = metrics.quarantined.labels(e.UNDECIDABLE)
    before = counted(counter)
    with caplog.at_level(logging.ERROR):
        done = await work(engine)
    assert "b#1" in done, "its report was accepted"
    assert (await status(engine, bad), await status(engine, good)) == ("failed", "completed")
    (row,) = await engine.orchestrator.quarantined_executions(10)
    assert (row.execution_id, row.path, row.version) == (bad, "t/bad", 1)
    assert row.error["code"] == "engine.undecidable"
    assert (
        row.error["message"] == "the engine cannot decide what follows call.done: Mistake: no idea what follows from b"
    )
    assert row.error["place"].startswith("engine/decide.py:"), "the innermost line that is the engine's own"
    assert (row.fact_count, row.facts) == (1, []), "a list tells how many are kept, and brings none"
    facts = (await engine.orchestrator.quarantined_execution(bad)).facts
    assert [(fact["type"], fact["command"]) for fact in facts] == [("call.done", "b#1")]
    assert counted(counter) == before + 1, "a metric tells"
    assert [record.execution_id for record in caplog.records if "audit: " in record.message] == [bad]  # type: ignore[attr-defined]


async def test_its_log_stays_readable_and_ends_with_the_fact_that_could_not_be_decided(
    engine: Engine, faulty: Faulty
) -> None:
    id = await into_quarantine(engine, faulty)
    log = await engine.log.events(id)
    assert [event.type for event in log] == [
        *("playbook.initialized", "command.issued", "call.done", "command.issued", "playbook.failed"),
    ]
    assert log[-1].payload["quarantined"]["type"] == "call.done"
    assert (await engine.orchestrator.quarantined_execution(id)).seq == log[-1].seq


async def test_a_start_that_cannot_be_decided_is_set_apart(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", CHAIN)
    with pytest.MonkeyPatch.context() as patch:

        def broken(decider: decide.Decider) -> None:
            raise Mistake("nothing begins")

        patch.setitem(decide.DECIDE, e.STARTED, broken)
        id = await engine.start()
    assert await status(engine, id) == "failed"
    assert await types(engine, id) == ["playbook.initialized", "playbook.failed"]
    await engine.orchestrator.retry_quarantined(id)
    assert await work(engine) == ["a#1", "b#1", "c#1"], "it had nothing to begin with"
    assert await status(engine, id) == "completed"


async def test_of_a_whole_batch_only_what_cannot_be_decided_or_stored_is_set_apart(
    engine: Engine, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", CHILD)
    engine.catalog.add("t/bad", CHILD.replace("only", "bad"))
    ids = [await engine.start() for _ in range(63)]
    bad = await engine.start("t/bad")
    commands = await engine.claim(limit=100)
    assert len(commands) == 64
    faulty.at("bad")
    unwritable = ids[31]

    def unchecked(outcome: Any, *more: Any) -> Any:
        fact = fact_of(outcome, *more)
        if outcome.execution_id == unwritable:
            fact.payload["data"] = "half of a pair: \ud800"
        return fact

    # as if the domain of values let it through
    monkeypatch.setattr(reports, "fact_of", unchecked)
    answer = await engine.report(*(outcome(command, {"n": 1}) for command in commands), capacity=64)
    assert {result.status for result in answer.results} == {"accepted"}
    ends = [await status(engine, id) for id in ids]
    assert ends == ["completed"] * 31 + ["failed"] + ["completed"] * 31
    rows = {row.execution_id: row for row in await engine.orchestrator.quarantined_executions(10)}
    assert rows.keys() == {bad, unwritable}
    assert rows[unwritable].fact_count == 0, "what cannot be stored is not kept"


async def test_a_request_that_cannot_be_stored_is_refused_and_sets_nothing_apart(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    before = await types(engine, id)
    with pytest.raises(InvalidRequest, match="this cannot be stored in execution"):
        await engine.orchestrator.controls.set_variables(id, {"q": 1}, source_step="half of a pair: \ud800")
    assert await types(engine, id) == before
    assert await engine.orchestrator.controls.set_variables(id, {"q": 1}, source_step="a")
    assert await work(engine) == ["a#1", "b#1", "c#1"]
    assert await status(engine, id) == "completed"


async def test_a_child_in_quarantine_notifies_its_parent(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", CHILD)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}))
    faulty.at("only")
    (only,) = await engine.claim()
    await engine.report(outcome(only))
    state = (await engine.log.load([id]))[id].state
    assert state.status == "failed"
    assert state.error is not None
    assert (state.error["code"], state.error["cause"]["code"]) == ("child.failed", "engine.undecidable")
    assert [row.execution_id for row in await engine.orchestrator.quarantined_executions(10)] == [only.execution_id]


async def test_what_was_started_before_the_fact_that_cannot_be_decided_goes_on(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", CALLS)
    engine.catalog.add("t/child", CHILD)
    id = await engine.start()
    (split,) = await engine.claim()
    call, b = (await engine.report(outcome(split), capacity=10)).commands
    faulty.at("b")
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}), outcome(b))
    (row,) = await engine.orchestrator.quarantined_executions(10)
    assert (row.execution_id, (await types(engine, id)).count("child.started")) == (id, 1)
    assert len(await engine.log.running_descendants(id)) == 1, "what the log says has been started is there"
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    assert await work(engine) == ["only#1", "after#1"]
    assert await status(engine, id) == "completed"


async def test_a_child_that_cannot_be_opened_sets_its_parent_apart_and_others_of_the_batch_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", CHILD)
    bad, good = await engine.start(), await engine.start()
    calls = {command.execution_id: command for command in await engine.claim()}
    # as a release does that does not look at the payload
    monkeypatch.setattr(children, "initial_values", lambda plan, payload: None)
    answer = await engine.report(
        outcome(calls[bad], status="parked", child={"path": "t/child", "payload": {"ctx": [1]}}),
        outcome(calls[good], status="parked", child={"path": "t/child"}),
    )
    assert [result.status for result in answer.results] == ["accepted", "accepted"]
    rows = await engine.orchestrator.quarantined_executions(10)
    assert [row.execution_id for row in rows] == [bad]
    (row,) = rows
    assert "payload.ctx must be an object" in row.error["message"]
    assert (await types(engine, bad))[-1] == "playbook.failed"
    assert await engine.log.executions_with_inbox(10) == [], "nothing is stuck"
    assert await work(engine) == ["only#1"]
    assert await status(engine, good) == "completed"


async def test_the_list_goes_on_behind_the_last_of_a_page(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", CHAIN)
    ids = sorted([await engine.start() for _ in range(3)], key=int)
    faulty.at("b")
    await work(engine)
    first = await engine.orchestrator.quarantined_executions(2)
    rest = await engine.orchestrator.quarantined_executions(2, first[-1].execution_id)
    assert [row.execution_id for row in (*first, *rest)] == ids


# -- a state that cannot be read


async def test_an_execution_that_cannot_be_read_is_cancelled(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    other = await spoil(engine, id)
    assert (await engine.log.load([id]))[id].read_error is not None
    assert await other.controls.cancel(id, "enough") == ("cancelled", [id])
    assert (await types(engine, id))[-1] == "execution.cancelled"
    assert await engine.claim() == [], "nothing of it is out"
    assert await other.controls.cancel(id, "again") == ("already_completed", [])


async def test_cancelling_what_cannot_be_read_ends_its_children_too(engine: Engine) -> None:
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", CHILD)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}))
    (child,) = await engine.log.running_descendants(id)
    other = await spoil(engine, id)
    assert await other.controls.cancel(id, "enough") == ("cancelled", [id, child])
    assert await status(engine, child) == "cancelled"


async def test_a_report_for_an_execution_that_cannot_be_read_sets_it_apart_and_others_go_on(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    spoiled, sound = await engine.start(), await engine.start()
    commands = await engine.claim()
    other = await spoil(engine, spoiled)
    answer = await engine.report(*(outcome(command) for command in commands), by=other)
    assert sorted(result.status for result in answer.results) == ["accepted", "stale"]
    await work(engine)
    assert await status(engine, sound) == "completed"
    (row,) = await engine.orchestrator.quarantined_executions(10)
    assert (row.execution_id, row.error["code"]) == (spoiled, "engine.undecidable")
    with pytest.raises(Conflict, match="cannot be read"):
        await other.retry_quarantined(spoiled)
    assert len(await engine.orchestrator.quarantined_executions(10)) == 1


async def test_what_goes_on_weighs_what_it_weighed(engine: Engine, faulty: Faulty) -> None:
    engine.catalog.add("t/t", FORK, "executor: {spec: {weight: 70}}\n")
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first))
    assert await weights(engine) == [70, 70]
    (left,) = await engine.claim(limit=1)
    faulty.at("left")
    await engine.report(outcome(left))
    assert await weights(engine) == []
    faulty.mend()
    await engine.orchestrator.retry_quarantined(id)
    assert await weights(engine) == [70], "what was out before is out again"


async def test_what_could_not_be_read_goes_on_once_it_can(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    sound = (await engine.log.load([id]))[id].state.snapshot()
    (first,) = await engine.claim()
    other = await spoil(engine, id)
    await engine.report(outcome(first), by=other)
    later = await spoil(engine, id, orjson.dumps(sound).decode())
    await later.retry_quarantined(id)
    assert await work(engine) == ["a#1", "b#1", "c#1"], "what was reported meanwhile is done again"
    assert await status(engine, id) == "completed"


async def test_a_timer_of_an_execution_that_cannot_be_read_sets_it_apart(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first, status="deferred", delay=1.0))
    engine.seconds += 2
    ((name, suspended),) = (await engine.log.load([id]))[id].state.timers.items()
    other = await spoil(engine, id)
    assert await other.fire_timer(id, name, suspended.key.partition("#")[0], 1)
    assert [fact["type"] for fact in (await other.quarantined_execution(id)).facts] == ["timer.fired"]


async def test_a_retry_with_a_fact_that_is_wrong_itself_ends_in_quarantine_again(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first, status="deferred", delay=60.0))
    fact = e.Event(e.TIMER_FIRED, int(engine.seconds * 1000), step="a", generation=1, payload={"without": "its timer"})
    await engine.orchestrator._commits.commit_fact(id, fact)
    assert (await engine.orchestrator.quarantined_execution(id)).error["code"] == "engine.undecidable"
    state = await engine.orchestrator.retry_quarantined(id)
    assert state.quarantined, "it is decided anew, and as little as before"
    assert [fact["payload"] for fact in (await engine.orchestrator.quarantined_execution(id)).facts] == [
        {"without": "its timer"}
    ]


async def test_a_cancelled_execution_that_cannot_be_read_has_ended(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    (first,) = await engine.claim()
    other = await spoil(engine, id)
    await other.controls.cancel(id, "enough")
    assert (await engine.report(outcome(first), by=other)).results[0].status == "stale"
    assert await engine.orchestrator.quarantined_executions(10) == [], "what has ended is not set apart"


# -- a playbook that cannot be compiled


async def test_a_playbook_that_cannot_be_compiled_stops_nobody_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/bad", CHAIN)
    engine.catalog.add("t/good", CHILD)
    bad, good = await engine.start("t/bad"), await engine.start("t/good")
    commands = await engine.claim()
    other = engine.another()
    hash, plan = engine.catalog.found["t/bad"].hash, other._playbooks.plan

    async def refuse(wanted: str) -> Any:
        if wanted == hash:
            raise InvalidPlaybook("a rule of this release forbids it", faults=[Fault("no", pointer="/workflow")])
        return await plan(wanted)

    monkeypatch.setattr(other._playbooks, "plan", refuse)
    answer = await engine.report(*(outcome(command) for command in commands), by=other)
    assert {result.status for result in answer.results} == {"accepted"}, "what was reported is kept"
    assert (await status(engine, bad), await status(engine, good)) == ("running", "completed")
    assert await engine.log.executions_with_inbox(10) == [bad], "it waits for a release that can read the playbook"
    assert await other.controls.cancel(bad, "enough") == ("cancelled", [bad])
    assert await status(engine, bad) == "cancelled"
    assert await engine.log.executions_with_inbox(10) == []


async def test_a_command_of_a_playbook_that_cannot_be_compiled_keeps_no_other_from_being_claimed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/bad", CHAIN)
    engine.catalog.add("t/good", CHILD)
    await engine.start("t/bad")
    good = await engine.start("t/good")
    hash, plan = engine.catalog.found["t/bad"].hash, engine.orchestrator._playbooks.plan

    async def refuse(wanted: str) -> Any:
        if wanted == hash:
            raise InvalidPlaybook("a rule of this release forbids it", faults=[Fault("no", pointer="/workflow")])
        return await plan(wanted)

    monkeypatch.setattr(engine.orchestrator._playbooks, "plan", refuse)
    assert [command.execution_id for command in await engine.claim()] == [good]
