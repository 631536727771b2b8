"""Commits: their races, who hears of them, what is at hand after them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.counted import counted

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Busy, InvalidRequest, Unavailable
from noetl_serverless.orchestrator import commits
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.protocol import ClaimRequest
from noetl_serverless.records import CommitResult, ExecutionCommit, UnstorableCommit
from noetl_serverless.telemetry import metrics

from .conftest import Engine, outcome
from .playbooks import LOOP, ONLY, parallel_to_a_child


def covers(command: Any) -> dict[str, Any]:
    return {"start": command.frame.start, "end": command.frame.end, "ok": 1, "failed": 0, "item_ms": 100}


async def test_a_caller_that_loses_every_race_is_asked_to_retry(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "MAX_COMMIT_ATTEMPTS", 3)
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(outcome(command, status="deferred", delay=5.0))
    (timer,) = (await engine.orchestrator.state(id)).timers
    tries: list[int] = []

    async def lost(parts: Any, claimant: Any = None) -> CommitResult:
        tries.append(len(parts))
        return CommitResult(frozenset(), [], [], [])

    commit = engine.log.commit
    monkeypatch.setattr(engine.log, "commit", lost)
    with pytest.raises(Busy, match=id):
        await engine.orchestrator.fire_timer(id, timer, "only", 1)
    assert tries == [1, 1, 1]
    monkeypatch.setattr(engine.log, "commit", commit)
    assert await engine.orchestrator.fire_timer(id, timer, "only", 1)


async def test_waiters_for_an_execution_are_notified_of_progress_and_end(engine: Engine) -> None:
    heard: list[tuple[str, bool]] = []
    engine.orchestrator = Orchestrator(
        engine.log,
        Plans(engine.catalog),
        engine.notifications,
        on_commit=lambda one: heard.append((one.execution_id, one.state.ended)),
    )
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(outcome(command))
    assert heard == [(id, False), (id, True)]


async def test_what_cannot_go_on_now_is_left_to_the_reconciler(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    id, _ = await parallel_to_a_child(engine)
    failures = metrics.isolated_failures.labels("follow")
    before = counted(failures)
    (only,) = await engine.claim()
    inbox = engine.log.read_inbox

    async def down(execution_id: str) -> Any:
        raise Unavailable("the database is gone")

    async def wrong(execution_id: str) -> Any:
        raise RuntimeError("no idea")

    monkeypatch.setattr(engine.log, "read_inbox", down)
    with caplog.at_level(logging.WARNING):
        answer = await engine.report(outcome(only, {"n": 1}))
    assert answer.results[0].status == "accepted"
    assert counted(failures) == before, "what is down now is no fault of ours"
    assert f"execution {id} is advanced later" in caplog.text
    monkeypatch.setattr(engine.log, "read_inbox", wrong)
    await engine.orchestrator._commits.process_inboxes([id])
    assert counted(failures) == before + 1
    monkeypatch.setattr(engine.log, "read_inbox", inbox)
    assert await engine.orchestrator.process_inbox(id)
    assert engine.status(id) == "COMPLETED"


async def test_outcomes_and_commands_are_counted(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    await engine.start()
    counts = [metrics.outcomes.labels("accepted"), metrics.outcomes.labels("stale")]
    claimed = metrics.commands_claimed.labels("step")
    before = [counted(count) for count in (*counts, claimed)]
    answer = await engine.orchestrator.claim(ClaimRequest(worker_id="w-1"))
    (command,) = answer.commands
    await engine.report(outcome(command))
    await engine.report(outcome(command))
    assert [counted(count) for count in (*counts, claimed)] == [count + 1 for count in before]


async def test_a_report_decides_on_the_case_at_hand_and_asks_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", LOOP)
    await engine.start()
    calls: list[str] = []
    for name in ("load", "extend_leases"):
        monkeypatch.setattr(engine.log, name, noting(getattr(engine.log, name), name, calls))
    (a,) = await engine.claim()
    commands = (await engine.report(outcome(a), capacity=5)).commands
    await engine.report(outcome(commands[0], [1], frame=covers(commands[0])))
    assert calls == [], "every report would cost two more statements"


def noting(call: Any, name: str, calls: list[str]) -> Any:
    async def noted(*given: Any) -> Any:
        calls.append(name)
        return await call(*given)

    return noted


async def test_what_was_committed_and_what_was_lost_is_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.catalog.add("t/t", ONLY)
    counts = [metrics.commits.labels("committed"), metrics.commits.labels("lost")]
    before = [counted(count) for count in counts]
    await engine.start()
    (command,) = await engine.claim()
    commit = engine.log.commit
    tries: list[int] = []

    async def race(parts: Any, claimant: Any = None) -> Any:
        tries.append(1)
        return await commit(parts, claimant) if len(tries) > 1 else CommitResult(frozenset(), [], [], [])

    monkeypatch.setattr(engine.log, "commit", race)
    await engine.report(outcome(command))
    assert [counted(count) - was for count, was in zip(counts, before, strict=True)] == [2, 1]


@pytest.mark.parametrize("races", [0, commits.MAX_OPTIMISTIC_CANCELS - 1, commits.MAX_OPTIMISTIC_CANCELS])
async def test_a_cancellation_that_loses_its_races_locks_the_row(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, races: int
) -> None:
    id, child = await parallel_to_a_child(engine)
    commit, exclusively = engine.log.commit, engine.log.commit_exclusively
    left = [None] * races
    locked: list[str] = []

    async def race(parts: Any, claimant: Any = None) -> Any:
        if left and not locked:
            left.pop()
            return CommitResult(frozenset(), [], [], [])
        return await commit(parts, claimant)

    async def note(execution_id: str, decide: Any) -> Any:
        locked.append(execution_id)
        return await exclusively(execution_id, decide)

    monkeypatch.setattr(engine.log, "commit", race)
    monkeypatch.setattr(engine.log, "commit_exclusively", note)
    heard: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        engine.orchestrator._commits, "_on_commit", lambda one: heard.append((one.execution_id, one.state.ended))
    )
    fact = Event(e.CANCELLED, 1, payload={"reason": "enough"})
    assert await engine.orchestrator._commits.commit_cancellation(id, fact) is True
    assert locked == ([id] if races == commits.MAX_OPTIMISTIC_CANCELS else [])
    assert (engine.status(id), engine.status(child)) == ("CANCELLED", "CANCELLED")
    assert heard == [(id, True), (child, True)]
    assert await engine.orchestrator._commits.commit_cancellation(id, fact) is False


async def test_a_case_that_lost_its_race_is_at_hand_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    calls: list[str] = []
    monkeypatch.setattr(engine.log, "load", noting(engine.log.load, "load", calls))
    known = engine.orchestrator._commits
    (case,) = (await known.cache.get([id])).values()
    assert calls == []
    committed = await known.write([ExecutionCommit(execution=case, events=[], expected_head=case.head - 1)])
    assert committed.committed == frozenset()
    await known.cache.get([id])
    assert calls == ["load"], "it is old"


async def test_an_execution_that_cannot_be_stored_is_not_started(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> Any:
        raise UnstorableCommit("half of a pair")

    engine.catalog.add("t/t", ONLY)
    monkeypatch.setattr(engine.log, "commit", refuse)
    with pytest.raises(InvalidRequest, match="the execution cannot be stored: half of a pair"):
        await engine.start()


async def test_what_lies_in_the_inbox_of_what_has_ended_is_forgotten(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("cancelled", [id])
    engine.memory._put(id, Event(e.TIMER_FIRED, 5, payload={"timer": "only#1!1"}))
    assert await engine.orchestrator.process_inbox(id) is False
    assert await engine.log.executions_with_inbox(10) == [], "the reconciler would come for it in every pass"


async def test_what_lies_behind_the_end_of_an_execution_in_its_inbox_goes_with_it(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    engine.memory._put(id, Event(e.CALL_DONE, 5, step="only", generation=1, command_id="only#1", payload={}))
    engine.memory._put(id, Event(e.TIMER_FIRED, 6, payload={"timer": "only#1!1"}))
    assert await engine.orchestrator.process_inbox(id) is True
    assert engine.status(id) == "COMPLETED"
    assert engine.memory.executions[id].inbox == {}, "it takes another pass to get rid of it"


async def test_an_inbox_of_several_parts_has_advanced_the_execution_although_the_last_brings_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INBOX_FACTS", 1)
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    engine.memory._put(id, Event(e.CALL_DONE, 5, step="only", generation=1, command_id="only#1", payload={}))
    engine.memory._put(id, Event(e.TIMER_FIRED, 6, payload={"timer": "only#1!1"}))
    assert await engine.orchestrator.process_inbox(id) is True
    assert (engine.status(id), engine.memory.executions[id].inbox) == ("COMPLETED", {})
