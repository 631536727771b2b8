"""A pass that meets what cannot be dealt with goes on with the next of its kind, and with the next kind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.counted import counted
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.errors import Problem, ResultStoreUnavailable, Unavailable
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.reconciler import reconciler
from noetl_serverless.reconciler.reconciler import Reconciler, ScheduledRuns
from noetl_serverless.store.schedules import DueRun
from noetl_serverless.telemetry import metrics

ONE = "- {step: only, tool: {kind: noop}}\n"
CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"


class Mistake(Exception):
    """Stands for a mistake in the engine, or for a row that is not as it should be."""


class Fires(ScheduledRuns):
    """Runs that schedules owe."""

    def __init__(self, *fires: DueRun) -> None:
        self.due = list(fires)
        self.settled: dict[int, str] = {}

    async def claim_due(self, now: datetime, limit: int) -> list[DueRun]:
        return self.due

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        self.settled[run.schedule_id] = "started"

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        self.settled[run.schedule_id] = "failed"

    async def hold(self, run: DueRun, now: datetime) -> bool:
        return True

    async def let_wait(self, run: DueRun) -> None:
        raise AssertionError("no run may overlap with another")

    async def record_skipped(self, run: DueRun, reason: str) -> None:
        raise AssertionError("no run may overlap with another")

    async def prune(self, before: datetime) -> None:
        return


class Pass:
    def __init__(self, engine: Engine, fires: Fires) -> None:
        self.orchestrator: Orchestrator = engine.another()
        self.fires = fires
        self._reconciler = Reconciler(
            engine.log,
            self.orchestrator,
            fires,
            engine.notifications,
            max_deliveries=2,
            now=lambda: datetime.fromtimestamp(engine.seconds, UTC),
        )

    async def __call__(self) -> dict[str, int]:
        return await self._reconciler.reconcile()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def reconcile(engine: Engine) -> Pass:
    return Pass(engine, Fires())


def refuse(patch: pytest.MonkeyPatch, thing: Any, method: str, execution_id: str) -> None:
    """One method raises for one execution."""
    sound = getattr(thing, method)

    async def hurt(first: Any, *more: Any) -> Any:
        if execution_id in (first, getattr(first, "execution_id", None)):
            raise Mistake(f"{method} of {execution_id}")
        return await sound(first, *more)

    patch.setattr(thing, method, hurt)


def undecidable(patch: pytest.MonkeyPatch, kind: str, execution_id: str) -> None:
    """One kind of fact cannot be decided for one execution."""
    sound = decide.DECIDE[kind]

    def hurt(decider: decide.Decider) -> None:
        if decider.state.execution_id == execution_id:
            raise Mistake("no idea")
        sound(decider)

    patch.setitem(decide.DECIDE, kind, hurt)


async def behind(engine: Engine, count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Executions, in order, that each have the end of a child in their inbox."""
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", ONE)
    ids = sorted([await engine.start() for _ in range(count)], key=int)
    for call in await engine.claim():
        await engine.report(outcome(call, status="parked", child={"path": "t/child"}))

    async def crash(ids: Any) -> None:
        return

    monkeypatch.setattr(engine.orchestrator._commits, "process_inboxes", crash)
    for only in await engine.claim():
        await engine.report(outcome(only))
    assert await engine.log.executions_with_inbox(10) == ids
    return ids


async def deferred(engine: Engine, count: int) -> list[str]:
    """Executions, in the order in which their timers are due."""
    engine.catalog.add("t/t", ONE)
    ids = [await engine.start() for _ in range(count)]
    commands = {command.execution_id: command for command in await engine.claim()}
    for delay, id in enumerate(ids, 1):
        await engine.report(outcome(commands[id], status="deferred", delay=float(delay)))
    engine.seconds += 60
    return ids


async def test_an_inbox_that_cannot_be_taken_in(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await behind(engine, 2, monkeypatch)
    refuse(monkeypatch, reconcile.orchestrator, "process_inbox", bad)
    before = counted(metrics.isolated_failures.labels("advance"))
    assert await reconcile() == {"inboxes": 1}
    assert engine.status(good) == "COMPLETED"
    assert counted(metrics.isolated_failures.labels("advance")) == before + 1, "it is counted"


async def test_a_fact_in_the_inbox_that_cannot_be_decided(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await behind(engine, 2, monkeypatch)
    undecidable(monkeypatch, e.CHILD_ENDED, bad)
    assert await reconcile() == {"inboxes": 2}
    assert (engine.status(bad), engine.status(good)) == ("FAILED", "COMPLETED")
    assert await engine.log.executions_with_inbox(10) == [], "nothing stays in an inbox"
    assert [row.execution_id for row in await engine.log.list_quarantined(10)] == [bad]


async def test_a_timer_that_cannot_be_fired(engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = await deferred(engine, 2)
    refuse(monkeypatch, reconcile.orchestrator, "fire_timer", bad)
    assert await reconcile() == {"timers": 1}
    assert [command.execution_id for command in await engine.claim()] == [good]


async def test_a_timer_that_cannot_be_decided(engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = await deferred(engine, 2)
    undecidable(monkeypatch, e.TIMER_FIRED, bad)
    assert await reconcile() == {"timers": 2}
    assert [command.execution_id for command in await engine.claim()] == [good]
    assert [row.execution_id for row in await engine.log.list_quarantined(10)] == [bad]
    assert "timers" not in await reconcile(), "it is no longer due"


async def test_a_schedule_that_cannot_start(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.catalog.add("t/good", ONE)
    engine.catalog.add("t/wild", '- {step: s, loop: {in: "{{ [2 ** 70] }}", iterator: x}, tool: {kind: noop}}\n')
    due = datetime.fromtimestamp(engine.seconds, UTC)
    paths = ("t/broken", "t/gone", "t/wild", "t/good", "t/later")
    fires = Fires(
        *(
            DueRun(schedule_id=id, due_at=due, playbook_path=path, playbook_version=None, input_payload={})
            for id, path in enumerate(paths, 1)
        )
    )
    pending_work, get = engine.log.pending_work, engine.catalog.get

    async def scheduled(age: float) -> Any:
        return replace(await pending_work(age), has_due_schedules=True)

    async def read(path: str, version: int | None = None) -> Any:
        if path == "t/broken":
            raise Mistake("a row that cannot be read")
        if path == "t/later":
            raise Unavailable("the catalog does not answer")
        return await get(path, version)

    monkeypatch.setattr(engine.log, "pending_work", scheduled)
    monkeypatch.setattr(engine.catalog, "get", read)
    await Pass(engine, fires)()
    later = "the first and the last are tried again when their leases are over"
    assert fires.settled == {2: "failed", 3: "started", 4: "started"}, later
    assert sorted(engine.status(id) for id in engine.memory.executions) == ["FAILED", "RUNNING"]


async def test_a_dead_letter_that_cannot_be_added(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", ONE)
    bad, good = await engine.start(), await engine.start()
    for _ in range(2):
        assert len(await engine.claim(lease=1.0)) == 2
        engine.seconds += 5
        await engine.log.expire_leases(2, 10)
    refuse(monkeypatch, reconcile.orchestrator, "fail_undeliverable", bad)
    assert (await reconcile())["dead_letters"] == 1
    assert (engine.status(bad), engine.status(good)) == ("RUNNING", "FAILED")


async def test_an_expired_lease_of_what_cannot_be_read(engine: Engine, reconcile: Pass) -> None:
    engine.catalog.add("t/t", ONE)
    bad, good = await engine.start(), await engine.start()
    await engine.claim(lease=1.0)
    engine.memory.executions[bad].state = b'{"tokens": 5}'
    engine.orchestrator = engine.another()
    engine.seconds += 5
    assert (await reconcile())["expired"] == 2
    for command in await engine.claim(lease=1.0):
        if command.execution_id == good:
            await engine.report(outcome(command))
    engine.seconds += 5
    await reconcile()
    assert (engine.status(bad), engine.status(good)) == ("FAILED", "COMPLETED")
    assert [row.execution_id for row in await engine.log.list_quarantined(10)] == [bad]
    assert await engine.log.undeliverable(1, 10) == [], "it is not met again by every pass"


async def test_one_kind_that_fails_does_not_keep_the_others_from_their_turn(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    (late,) = await deferred(engine, 1)

    async def hurt(*_: Any) -> Any:
        raise Mistake("no list")

    everything = replace(
        await engine.log.pending_work(1.0), has_expired_leases=True, has_inboxes=True, has_due_schedules=True
    )

    async def all_of_them(age: float) -> Any:
        return everything

    monkeypatch.setattr(engine.log, "pending_work", all_of_them)
    for method in ("expire_leases", "undeliverable", "executions_with_inbox"):
        monkeypatch.setattr(engine.log, method, hurt)
    assert await reconcile() == {"timers": 1}
    assert [command.execution_id for command in await engine.claim()] == [late]


async def unreadable(engine: Engine, patch: pytest.MonkeyPatch, ids: list[str]) -> list[str]:
    """The executions need something of the result store, which does not give it; who is asked for, in order."""
    loaded: list[str] = []
    inbox = engine.log.read_inbox

    async def read(id: str) -> Any:
        loaded.append(id)
        if id in ids:
            raise ResultStoreUnavailable("the result store does not answer; try again")
        return await inbox(id)

    patch.setattr(engine.log, "read_inbox", read)
    return loaded


async def test_a_payload_that_cannot_be_read_stops_its_execution_alone(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await behind(engine, 2, monkeypatch)
    engine.catalog.add("t/late", ONE)
    late = await engine.start("t/late")
    await engine.claim(lease=1.0)
    engine.seconds += 5
    await unreadable(engine, monkeypatch, [bad])
    with suppress(Unavailable):
        await reconcile()
    assert (engine.status(bad), engine.status(good)) == ("RUNNING", "COMPLETED")
    assert [command.execution_id for command in await engine.claim(lease=1.0)] == [late]
    engine.seconds += 5
    assert (await reconcile())["dead_letters"] == 1, "the database was never away: who holds a lease could prolong it"


async def test_a_result_store_that_hangs_does_not_keep_a_pass_for_long(
    engine: Engine, reconcile: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await behind(engine, 3, monkeypatch)
    loaded = await unreadable(engine, monkeypatch, ids[:2])
    monkeypatch.setattr(reconciler, "INBOX_SECONDS", 0.0)
    for _ in range(5):
        await reconcile()
    assert loaded == [*ids, ids[0]], "the next pass goes on behind the last"
