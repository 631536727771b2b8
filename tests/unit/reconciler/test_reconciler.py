"""What one pass puts right."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.errors import Problem, Unavailable
from noetl_serverless.ports import KeyValue
from noetl_serverless.protocol import HeartbeatRequest, Held
from noetl_serverless.reconciler.outages import NOTE_TTL_SECONDS
from noetl_serverless.reconciler.reconciler import Reconciler, ScheduledRuns
from noetl_serverless.records import PendingWork
from noetl_serverless.store.schedules import DueRun
from noetl_serverless.testing.bus import MemoryKeyValue

CHAIN = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n"


class NoSchedules(ScheduledRuns):
    async def claim_due(self, now: datetime, limit: int) -> list[DueRun]:
        return []

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        raise AssertionError("no run was due")

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        raise AssertionError("no run was due")

    async def hold(self, run: DueRun, now: datetime) -> bool:
        return True

    async def let_wait(self, run: DueRun) -> None:
        raise AssertionError("no run may overlap with another")

    async def record_skipped(self, run: DueRun, reason: str) -> None:
        raise AssertionError("no run may overlap with another")

    async def prune(self, before: datetime) -> None:
        return


@pytest.fixture
def engine() -> Engine:
    return Engine()


def reconciler(engine: Engine, max_deliveries: int = 3, notes: KeyValue | None = None) -> Reconciler:
    return Reconciler(
        engine.log,
        engine.another(),
        NoSchedules(),
        engine.notifications,
        max_deliveries=max_deliveries,
        key_value=notes,
        now=lambda: datetime.fromtimestamp(engine.seconds, UTC),
    )


async def test_nothing_to_do_does_nothing(engine: Engine) -> None:
    assert await reconciler(engine).reconcile() == {}


async def test_a_worker_is_invoked_for_what_nobody_took(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    engine.recorder.notified.clear()
    assert await reconciler(engine).reconcile() == {}, "what has just been told is given a moment"
    engine.seconds += 2
    assert await reconciler(engine).reconcile() == {"notified_pools": 1}
    assert engine.recorder.notified == [("shared", "invocation")]


async def test_an_expired_lease_is_given_away(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    await engine.claim(lease=1.0)
    engine.seconds += 5
    engine.recorder.notified.clear()
    done = await reconciler(engine).reconcile()
    assert done["expired"] == 1
    assert ("shared", "a#1") in engine.recorder.notified


async def test_a_command_that_kills_its_workers_becomes_a_dead_letter(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    for _ in range(3):
        assert len(await engine.claim(lease=1.0)) == 1
        engine.seconds += 5
        await reconciler(engine).reconcile()
    assert engine.status(id) == "FAILED"


async def test_a_due_timer_fires(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first, status="deferred", delay=60.0, resume={"task": "a"}))
    assert await reconciler(engine).reconcile() == {}
    engine.seconds += 61
    assert await reconciler(engine).reconcile() == {"timers": 1}
    (again,) = await engine.claim()
    assert (again.attempt, again.resume) == (2, {"task": "a"})


async def test_an_execution_whose_log_is_ahead_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.catalog.add("t/t", "- {step: call, tool: {kind: playbook, path: t/child}}\n")
    engine.catalog.add("t/child", "- {step: only, tool: {kind: noop}}\n")
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}))
    (only,) = await engine.claim()

    async def crash(ids: Any) -> None:
        return

    monkeypatch.setattr(engine.orchestrator._commits, "process_inboxes", crash)
    await engine.report(outcome(only))
    assert engine.status(id) == "RUNNING"
    assert await reconciler(engine).reconcile() == {"inboxes": 1}
    assert engine.status(id) == "COMPLETED"


async def test_two_reconcilers_do_it_once(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.report(outcome(first, status="deferred", delay=1.0))
    engine.seconds += 2
    one, two = reconciler(engine), reconciler(engine)
    await one.reconcile()
    await two.reconcile()
    assert engine.types(id).count("timer.fired") == 1


async def away(age: float) -> PendingWork:
    raise Unavailable("the database is away")


async def test_leases_that_ran_out_while_the_database_was_away_are_left_to_their_holders_for_a_while(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    (command,) = await engine.claim(lease=10.0)
    passes = reconciler(engine)
    with monkeypatch.context() as outage:
        outage.setattr(engine.memory, "finding_pending", away)
        engine.seconds += 60
        with pytest.raises(Unavailable):
            await passes.reconcile()
    engine.seconds += 5
    assert "expired" not in await passes.reconcile(), "nobody could prolong a lease while the database was away"
    held = Held(execution_id=command.execution_id, command_id=command.command_id, fence=command.fence)
    prolonged = await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=[held]))
    assert prolonged.lost == [], "who is alive keeps its command"
    engine.seconds += 60
    assert (await passes.reconcile())["expired"] == 1, "an outage that is over protects nobody"


async def test_that_the_database_was_away_outlives_the_process_that_saw_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = MemoryKeyValue(NOTE_TTL_SECONDS, clock=lambda: engine.seconds)
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    await engine.claim(lease=10.0)
    with monkeypatch.context() as outage:
        outage.setattr(engine.memory, "finding_pending", away)
        engine.seconds += 60
        with pytest.raises(Unavailable):
            await reconciler(engine, notes=notes).reconcile()
    engine.seconds += 5
    assert "expired" not in await reconciler(engine, notes=notes).reconcile(), "this process has never seen it away"
    engine.seconds += 60
    assert (await reconciler(engine, notes=notes).reconcile())["expired"] == 1


class Counted(MemoryKeyValue):
    fault: Exception | None = None
    calls = 0

    async def get(self, key: str) -> bytes | None:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return await super().get(key)

    async def put(self, key: str, value: bytes) -> None:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        await super().put(key, value)


async def test_nobody_asks_for_outages_while_all_is_well(engine: Engine) -> None:
    notes = Counted()
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    await engine.claim(lease=30.0)
    for _ in range(3):
        engine.seconds += 5
        await reconciler(engine, notes=notes).reconcile()
    assert notes.calls == 0


@pytest.mark.parametrize("fault", [Unavailable("NATS does not answer"), TimeoutError()])
async def test_without_a_place_for_notes_a_process_still_knows_what_it_saw(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    notes = Counted()
    notes.fault = fault
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    await engine.claim(lease=10.0)
    passes = reconciler(engine, notes=notes)
    with monkeypatch.context() as outage:
        outage.setattr(engine.memory, "finding_pending", away)
        engine.seconds += 60
        with pytest.raises(Unavailable, match="the database is away"):
            await passes.reconcile()
    engine.seconds += 5
    assert "expired" not in await passes.reconcile()
    assert (await reconciler(engine, notes=notes).reconcile())["expired"] == 1, "who knows nothing goes on"
