"""Runs of a schedule that are due while an earlier one still runs: several reconcilers, some of them killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.concurrency.harness import MAX_DELIVERIES, Harness, Plane

from noetl_serverless.engine import events as e
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.store.overlap import OverlapPolicy
from noetl_serverless.store.schedule_runs import RUN_LEASE
from noetl_serverless.store.schedules import Schedules

ONE = """
workload: {schedule: {name: null, due_at: null, backfill: null}, n: 0}
workflow:
  - {step: a, tool: {kind: noop}}
"""
NOW = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICIES: tuple[OverlapPolicy, ...] = ("allow", "skip", "queue", "cancel_running")


class Killed(BaseException):
    """The process of a reconciler dies."""


class Keepers:
    """Reconcilers with one clock, which a test sets."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.now = NOW
        self.schedules = Schedules(harness.planes[0].database)
        self.reconcilers = [self._reconciler(plane) for plane in harness.keepers]
        # at which of its next steps a reconciler dies
        self.kills: dict[str, int] = {}

    async def create(self, policy: OverlapPolicy, **more: Any) -> int:
        values = {"interval_seconds": 60, "missed_policy": "catch_up", "name": "s", "input_payload": {"n": 1}, **more}
        made = await self.schedules.create(self.now, playbook_path="t/one", overlap_policy=policy, **values)
        return made.schedule_id

    async def reconcile(self, after: timedelta = timedelta(0)) -> None:
        """All reconcilers at once; those that are killed are succeeded by new ones."""
        self.now += after
        for done in await asyncio.gather(*(each.reconcile() for each in self.reconcilers), return_exceptions=True):
            if isinstance(done, BaseException) and not isinstance(done, Killed):
                raise done

    async def end_all(self) -> int:
        """End what runs."""
        commands = await self.harness.planes[1].claim()
        for command in commands:
            await self.harness.planes[1].tell(command)
        return len(commands)

    async def runs(self, id: int) -> list[dict[str, Any]]:
        """The oldest first."""
        return (await self.schedules.runs(id, 1000))[::-1]

    async def statuses(self, id: int) -> list[str]:
        return [f"{run['status']} {run['execution_status'] or ''}".strip() for run in await self.runs(id)]

    def _reconciler(self, plane: Plane) -> Reconciler:
        schedules = Schedules(plane.database)
        for name in ("claim_due", "hold", "let_wait", "record_started", "record_skipped"):
            setattr(schedules, name, self._mortal(name, getattr(schedules, name)))
        orchestrator = plane.orchestrator
        for owner, name in ((orchestrator, "start"), (orchestrator, "find_started"), (orchestrator.controls, "cancel")):
            setattr(owner, name, self._mortal(name, getattr(owner, name)))
        return Reconciler(
            plane.log,
            plane.orchestrator,
            schedules,
            plane.notifications,
            max_deliveries=MAX_DELIVERIES,
            now=lambda: self.now,
        )

    def _mortal(self, name: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **more: Any) -> Any:
            done = await step(*args, **more)
            for kill in (name, "any"):
                if kill in self.kills:
                    self.kills[kill] -= 1
                    if self.kills[kill] < 0:
                        del self.kills[kill]
                        raise Killed(name)
            return done

        return run


@pytest.fixture
def route(postgres_url: str) -> str:
    """The pooler has its turn in other tests."""
    return postgres_url


@pytest.fixture
async def keepers(harness: Harness) -> Keepers:
    await harness.add("t/one", ONE)
    return Keepers(harness)


async def test_runs_may_overlap_unless_a_policy_says_otherwise(keepers: Keepers) -> None:
    id = await keepers.create("allow")
    await keepers.reconcile(MINUTE)
    await keepers.reconcile(MINUTE)
    assert await keepers.statuses(id) == ["started RUNNING", "started RUNNING"]


async def test_a_run_is_skipped_while_an_earlier_one_runs_and_says_why(keepers: Keepers) -> None:
    id = await keepers.create("skip")
    for _ in range(3):
        await keepers.reconcile(MINUTE)
    first, *others = await keepers.runs(id)
    assert await keepers.statuses(id) == ["started RUNNING", "skipped", "skipped"]
    reason = f"execution {first['execution_id']} of an earlier run was still running"
    assert {run["reason"] for run in others} == {reason}
    assert (await keepers.schedules.get("s")).last_status == "skipped"
    await keepers.end_all()
    await keepers.reconcile(MINUTE)
    assert (await keepers.statuses(id))[2:] == ["skipped", "started RUNNING"]


async def test_one_run_waits_and_starts_when_the_earlier_has_ended(keepers: Keepers) -> None:
    id = await keepers.create("queue")
    for _ in range(4):
        await keepers.reconcile(MINUTE)
    assert await keepers.statuses(id) == ["started RUNNING", "waiting", "skipped", "skipped"]
    assert (await keepers.runs(id))[2]["reason"] == "a run due at 2025-07-01T12:02:00Z was already waiting"
    await keepers.end_all()
    await keepers.reconcile()
    assert (await keepers.statuses(id))[:2] == ["started COMPLETED", "started RUNNING"]


async def test_the_earlier_run_is_cancelled_for_the_latest_that_is_due(keepers: Keepers) -> None:
    id = await keepers.create("cancel_running")
    await keepers.reconcile(MINUTE)
    await keepers.reconcile(3 * MINUTE)
    assert await keepers.statuses(id) == ["started CANCELLED", "skipped", "skipped", "started RUNNING"]
    assert (await keepers.runs(id))[1]["reason"] == "a later run, due at 2025-07-01T12:04:00Z, starts instead"


STEPS = [(policy, step) for policy in POLICIES for step in ("claim_due", "hold", "start", "record_started")]


@pytest.mark.parametrize(("policy", "step"), [*STEPS, ("cancel_running", "cancel")])
async def test_whoever_dies_between_two_steps_a_run_is_started_once(
    keepers: Keepers, policy: OverlapPolicy, step: str
) -> None:
    id = await keepers.create(policy, interval_seconds=3600)
    if policy == "cancel_running":
        await keepers.reconcile(timedelta(hours=1))
    before = len(await keepers.runs(id))
    keepers.kills[step] = 0
    await keepers.reconcile(timedelta(hours=1))
    assert not keepers.kills, f"nobody died after {step}"
    # another input: what was started is found by its key
    await keepers.schedules.update("s", {"input_payload": {"n": 2}}, keepers.now)
    for _ in range(2):
        await keepers.reconcile(RUN_LEASE)
    runs = await keepers.runs(id)
    assert [run["status"] for run in runs] == ["started"] * (before + 1)
    executions = await _executions(keepers)
    assert sorted(executions) == sorted(run["execution_id"] for run in runs), "one was started twice, or not recorded"
    assert (await keepers.statuses(id))[-1] == "started RUNNING"


async def test_a_run_that_was_started_and_not_recorded_is_not_skipped_for_a_later_one(keepers: Keepers) -> None:
    id = await keepers.create("cancel_running")
    keepers.kills["start"] = 0
    await keepers.reconcile(MINUTE)
    assert await keepers.statuses(id) == ["open"]
    # the next is due when the lease is over
    await keepers.reconcile(RUN_LEASE)
    assert await keepers.statuses(id) == ["started CANCELLED", "started RUNNING"]


async def test_a_run_that_was_started_and_not_recorded_is_no_skipped_one_when_its_schedule_is_off(
    keepers: Keepers,
) -> None:
    id = await keepers.create("allow")
    keepers.kills["start"] = 0
    await keepers.reconcile(MINUTE)
    await keepers.schedules.set_enabled("s", False, keepers.now)
    await keepers.reconcile(RUN_LEASE)
    assert await keepers.statuses(id) == ["started RUNNING"]


@pytest.mark.parametrize("policy", ["skip", "queue", "cancel_running"])
@pytest.mark.parametrize("seed", range(2))
async def test_runs_never_overlap_whatever_dies_when(keepers: Keepers, policy: OverlapPolicy, seed: int) -> None:
    chance = random.Random(seed)
    id = await keepers.create(policy)
    for _ in range(14):
        if chance.random() < 0.5:
            keepers.kills["any"] = chance.randrange(6)
        await keepers.reconcile(timedelta(seconds=chance.choice((20, 60, 90))))
        if chance.random() < 0.5:
            await keepers.end_all()
        if chance.random() < 0.2:
            first = keepers.now - chance.randrange(3, 40) * MINUTE
            await keepers.schedules.backfill("s", first, first + 3 * MINUTE, keepers.now, max_runs=9)
    keepers.kills.clear()
    for _ in range(60):
        await keepers.reconcile(timedelta(seconds=5))
        if not [run for run in await keepers.runs(id) if run["status"] in ("open", "waiting")]:
            break
        await keepers.end_all()
    runs = await keepers.runs(id)
    assert {run["status"] for run in runs} <= {"started", "skipped"}, runs
    assert not [run for run in runs if run["backfill"] and run["status"] == "skipped"], "a backfill was skipped"
    executions = await _executions(keepers)
    assert sorted(executions) == sorted(run["execution_id"] for run in runs if run["status"] == "started")
    spans = sorted(executions.values(), key=lambda span: span[0])
    overlapping = [(one, other) for one, other in itertools.pairwise(spans) if one[1] is None or one[1] > other[0]]
    assert not overlapping, f"runs overlap: {overlapping}"
    assert keepers.harness.findings() == []


async def test_a_backfill_is_run_one_after_the_other_where_runs_must_not_overlap(keepers: Keepers) -> None:
    id = await keepers.create("skip", interval_seconds=3600)
    day = NOW - timedelta(days=1)
    requested = await keepers.schedules.backfill("s", day, day + timedelta(hours=3), NOW, max_runs=10)
    assert [run.due_at for run in requested] == [day + timedelta(hours=hour) for hour in range(3)]
    for number in range(1, 4):
        await keepers.reconcile()
        expected = ["started COMPLETED"] * (number - 1) + ["started RUNNING"] + ["waiting"] * (3 - number)
        assert await keepers.statuses(id) == expected
        assert await keepers.end_all() == 1


async def test_a_backfill_that_is_requested_again_starts_nothing_new(keepers: Keepers) -> None:
    id = await keepers.create("allow")
    await keepers.reconcile(2 * MINUTE)
    for new in ([True, True, False, False], [False] * 4):
        end = keepers.now + timedelta(seconds=1)
        requested = await keepers.schedules.backfill("s", NOW - MINUTE, end, end, max_runs=10)
        assert [run.is_new for run in requested] == new
        await keepers.reconcile(timedelta(seconds=1))
    assert await keepers.statuses(id) == ["started RUNNING"] * 4
    assert len(await _executions(keepers)) == 4


async def test_a_backfill_makes_up_for_a_run_that_was_skipped(keepers: Keepers) -> None:
    id = await keepers.create("skip")
    await keepers.reconcile(MINUTE)
    await keepers.reconcile(MINUTE)
    end = keepers.now + timedelta(seconds=1)
    await keepers.schedules.backfill("s", NOW, end, end, max_runs=10)
    await keepers.reconcile(timedelta(seconds=1))
    assert await keepers.statuses(id) == ["waiting", "started RUNNING", "waiting"]


async def test_a_playbook_is_given_the_time_that_its_run_was_due_at(keepers: Keepers) -> None:
    id = await keepers.create("allow", jitter_seconds=30)
    await keepers.schedules.backfill("s", NOW - MINUTE, NOW, NOW, max_runs=10)
    await keepers.reconcile(2 * MINUTE)
    given = []
    for run in (await keepers.runs(id))[:2]:
        [started] = await keepers.harness.events(str(run["execution_id"]), e.STARTED)
        given.append(started.payload["workload"])
    assert given == [
        {"n": 1, "schedule": {"name": "s", "due_at": "2025-07-01T11:59:00Z", "backfill": True}},
        {"n": 1, "schedule": {"name": "s", "due_at": "2025-07-01T12:01:00Z", "backfill": False}},
    ]


async def test_nothing_starts_of_a_schedule_that_is_turned_off_while_its_run_is_leased(keepers: Keepers) -> None:
    id = await keepers.create("allow")
    (run,) = await keepers.schedules.claim_due(NOW + MINUTE, 10)
    await keepers.schedules.set_enabled("s", False, NOW + MINUTE)
    assert not await keepers.schedules.hold(run, NOW + MINUTE), "its holder starts it all the same"
    await keepers.reconcile(MINUTE + RUN_LEASE)
    assert await keepers.statuses(id) == ["skipped"]
    assert (await keepers.runs(id))[0]["reason"] == "the schedule was disabled"


async def test_nothing_starts_of_a_schedule_that_is_deleted_while_its_run_is_leased(keepers: Keepers) -> None:
    await keepers.create("allow")
    (run,) = await keepers.schedules.claim_due(NOW + MINUTE, 10)
    await keepers.schedules.delete("s")
    assert not await keepers.schedules.hold(run, NOW + MINUTE), "its holder starts it all the same"
    await keepers.reconcile(MINUTE + RUN_LEASE)
    assert await _executions(keepers) == {}


async def test_a_run_that_another_has_claimed_since_is_left_to_it(keepers: Keepers) -> None:
    await keepers.create("skip")
    (slow,) = await keepers.schedules.claim_due(NOW + MINUTE, 10)
    (quick,) = await keepers.schedules.claim_due(NOW + MINUTE + RUN_LEASE, 10)
    assert (slow.due_at, quick.again) == (quick.due_at, True)
    assert not await keepers.schedules.hold(slow, NOW + MINUTE + RUN_LEASE)
    await keepers.schedules.let_wait(slow)
    assert await keepers.schedules.hold(quick, NOW + MINUTE + RUN_LEASE)


async def _executions(keepers: Keepers) -> dict[int, tuple[datetime, datetime | None]]:
    """Begin and end by id."""
    rows = await keepers.harness.planes[0].database.run(
        "SELECT execution_id, created_at, ended_at FROM noetl.execution"
    )
    return {id: (begin, end) for id, begin, end in rows}
