"""One bounded pass. Any number may run at once: each item is taken under SKIP LOCKED or by compare-and-set."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic, perf_counter
from typing import Protocol, TypeVar

from ..errors import Busy, Conflict, NotFound, Problem, ResultStoreUnavailable, Unavailable
from ..orchestrator.notifications import Notifications
from ..orchestrator.orchestrator import Orchestrator
from ..ports import EventStore, KeyValue
from ..records import EPOCH, DeadLetter, DueTimer
from ..store.overlap import Skip, Wait, decide
from ..store.schedule_runs import DueRun
from ..telemetry import metrics
from .outages import Outages
from .retention import Retention

logger = logging.getLogger(__name__)

T = TypeVar("T")

# items of each kind that one pass handles at most
MAX_ITEMS = 200
# how long a command may wait before its worker is invoked again, in seconds
NOTIFY_AGAIN_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 3600.0
# how long one pass may spend on inboxes before it continues with the rest, in seconds
INBOX_SECONDS = 15.0
RUN_HISTORY = timedelta(days=90)


class ScheduledRuns(Protocol):
    """What the reconciler needs of `store.schedule_runs.ScheduleRuns`."""

    async def claim_due(self, now: datetime, limit: int) -> list[DueRun]: ...

    async def hold(self, run: DueRun, now: datetime) -> bool: ...

    async def let_wait(self, run: DueRun) -> None: ...

    async def record_started(self, run: DueRun, execution_id: int) -> None: ...

    async def record_skipped(self, run: DueRun, reason: str) -> None: ...

    async def record_failed(self, run: DueRun, problem: Problem) -> None: ...

    async def prune(self, before: datetime) -> None: ...


class TriggerWork(Protocol):
    """What the reconciler does for triggers: see `triggers.TriggerSources`."""

    async def start_due(self, limit: int) -> int: ...

    async def read_sources(self) -> int: ...


class Reconciler:
    def __init__(
        self,
        event_store: EventStore,
        orchestrator: Orchestrator,
        schedules: ScheduledRuns,
        notifications: Notifications,
        *,
        max_deliveries: int,
        retention: Retention | None = None,
        key_value: KeyValue | None = None,
        attend: Callable[[], Awaitable[None]] | None = None,
        triggers: TriggerWork | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`key_value` keeps what the next process must know; `attend` shows this one in the registry, and never
        fails."""
        self._event_store = event_store
        self._orchestrator = orchestrator
        self._schedules = schedules
        self._notifications = notifications
        self._max_deliveries = max_deliveries
        self._retention = retention
        self._attend = attend
        self._triggers = triggers
        self._now = now
        self._housekeeping_done_at: float | None = None
        # where the next pass continues, after one that found more than it may handle
        self._inboxes_after = "0"
        self._due_after = EPOCH
        self._outages = Outages(now, key_value)

    async def reconcile(self) -> dict[str, int]:
        """Do one pass; returns how much was done, by kind. A failure of one item or kind does not stop the others.
        Raises Unavailable while the database is away."""
        try:
            return await self._pass()
        except Unavailable:
            await self._outages.record()
            raise

    async def _pass(self) -> dict[str, int]:
        started = perf_counter()
        await self._run_isolated("keep_house", self._run_housekeeping)
        pending = await self._event_store.pending_work(NOTIFY_AGAIN_SECONDS)
        done: dict[str, int] = {}
        # leases cannot be extended during an outage of the database, so holders get time to do so afterwards: otherwise
        # each outage would count as a failed delivery of every running command
        if pending.has_expired_leases and not await self._outages.was_recent():
            done["expired"] = await self._run_isolated("expire", self._expire)
            done["dead_letters"] = await self._run_isolated("give_up", self._fail_undeliverable)
        if pending.has_inboxes:
            done["inboxes"] = await self._run_isolated("process_inbox", self._process_inboxes)
        if pending.has_due_timers:
            done["timers"] = await self._run_isolated("fire_timer", self._fire_timers)
        if pending.has_due_schedules:
            done["schedules"] = await self._run_isolated("fire_schedule", self._fire_schedules)
        if self._triggers is not None and pending.has_trigger_sources:
            done["trigger_messages"] = await self._run_isolated("read_sources", self._triggers.read_sources)
        if self._triggers is not None and pending.has_trigger_events:
            start_due = partial(self._triggers.start_due, MAX_ITEMS)
            done["trigger_events"] = await self._run_isolated("start_triggered", start_due)
        if pending.has_pending_commands:
            done["notified_pools"] = await self._run_isolated("notify", self._notify_pools)
        if pending.has_limited_commands:
            done["startable"] = await self._run_isolated("begin_limited", self._notify_limited)
        if pending.maintenance and self._retention is not None:
            done.update(await self._run_maintenance(self._retention))
        if self._attend is not None:
            await self._attend()
        for action, count in done.items():
            metrics.reconciler_actions.labels(action).inc(count)
        metrics.reconciler_seconds.observe(perf_counter() - started)
        return {action: count for action, count in done.items() if count}

    # -- isolated failures

    async def _run_isolated(self, action: str, work: Callable[[], Awaitable[int]]) -> int:
        """Run `work`; returns how much was done, 0 if it failed. Raises Unavailable, which concerns the whole pass."""
        try:
            return await work()
        except (Busy, ResultStoreUnavailable) as problem:
            logger.warning("%s is postponed: %s", action, problem)
        except Unavailable:
            raise
        except Exception:
            metrics.isolated_failures.labels(action).inc()
            logger.exception("%s failed; the pass continues", action)
        return 0

    async def _each(self, action: str, items: Iterable[T], work: Callable[[T], Awaitable[int]]) -> int:
        return sum([await self._run_isolated(action, partial(work, item)) for item in items])

    async def _run_maintenance(self, retention: Retention) -> dict[str, int]:
        done: dict[str, int] = {}

        async def task() -> int:
            done.update(await retention.run_next_task())
            return 0

        await self._run_isolated("maintenance", task)
        return done

    # -- kinds of work

    async def _expire(self) -> int:
        pending = await self._event_store.expire_leases(self._max_deliveries, MAX_ITEMS)
        for _, key in pending:
            logger.warning(
                "a worker's lease ran out; its command is given to another",
                extra={"execution_id": key.execution_id, "command_id": key.command_id},
            )
        await self._notifications.notify(pending)
        return len(pending)

    async def _fail_undeliverable(self) -> int:
        return await self._each(
            "give_up", await self._event_store.undeliverable(self._max_deliveries, MAX_ITEMS), self._fail_one
        )

    async def _fail_one(self, dead_letter: DeadLetter) -> int:
        if not await self._orchestrator.fail_undeliverable(dead_letter):
            return 0
        extra = {"execution_id": dead_letter.execution_id, "command_id": dead_letter.command_id}
        logger.error("a command was given up after %d deliveries", dead_letter.deliveries, extra=extra)
        return 1

    async def _process_inboxes(self) -> int:
        """In turn over several passes, so that executions that cannot advance now do not hold up others."""
        ids = await self._event_store.executions_with_inbox(MAX_ITEMS, self._inboxes_after)
        # each may wait for a result store that does not answer
        deadline = monotonic() + INBOX_SECONDS
        done = 0
        for id in ids:
            self._inboxes_after = id
            done += await self._run_isolated("advance", partial(self._orchestrator.process_inbox, id))
            if monotonic() >= deadline:
                return done
        if len(ids) < MAX_ITEMS:
            self._inboxes_after = "0"
        return done

    async def _fire_timers(self) -> int:
        timers = await self._event_store.due_timers(MAX_ITEMS, self._due_after)
        self._due_after = timers[-1].due_at if len(timers) == MAX_ITEMS else EPOCH
        return await self._each("fire_timer", timers, self._fire)

    async def _fire(self, timer: DueTimer) -> int:
        return await self._orchestrator.fire_timer(timer.execution_id, timer.name, timer.step, timer.generation)

    async def _fire_schedules(self) -> int:
        done = 0
        while True:
            runs = await self._schedules.claim_due(self._now(), MAX_ITEMS)
            await self._each("fire_schedule", runs, self._settle)
            done += len(runs)
            # of schedules whose runs must not overlap, one run each was claimed
            if done >= MAX_ITEMS or all(run.overlap.policy == "allow" for run in runs):
                return done

    async def _settle(self, run: DueRun) -> int:
        try:
            await self._start_or_skip(run)
        except Unavailable as problem:
            logger.warning("schedule %s starts later: %s", run.schedule_id, problem)
        except Problem as problem:
            logger.error("schedule %s cannot start: %s", run.schedule_id, problem)
            await self._schedules.record_failed(run, problem)
        return 1

    async def _start_or_skip(self, run: DueRun) -> None:
        principal = {"kind": "schedule", "name": str(run.schedule_id)}
        # whoever had it before may have started it, and not recorded that
        if run.again and (found := await self._orchestrator.find_started(run.idempotency_key, principal)) is not None:
            await self._schedules.record_started(run, int(found))
            return
        decision = Skip(run.reason) if run.reason is not None else decide(run.overlap, run.backfill)
        if isinstance(decision, Skip):
            await self._schedules.record_skipped(run, decision.reason)
            return
        if isinstance(decision, Wait):
            await self._schedules.let_wait(run)
            return
        if not await self._schedules.hold(run, self._now()):
            return
        for execution_id in decision.cancels:
            await self._cancel(execution_id, run)
        try:
            started = await self._orchestrator.start(
                path=run.playbook_path,
                version=run.playbook_version,
                payload=run.input_payload,
                schedule=run.inputs,
                idempotency_key=run.idempotency_key,
                principal=principal,
            )
            execution_id = started.execution_id
        except Conflict:
            # it was started before the schedule got another playbook or input
            found = await self._orchestrator.find_started(run.idempotency_key, principal)
            if found is None:
                raise
            execution_id = found
        await self._schedules.record_started(run, int(execution_id))

    async def _cancel(self, execution_id: str, run: DueRun) -> None:
        try:
            await self._orchestrator.controls.cancel(
                execution_id, f"its schedule starts the run due at {run.inputs['due_at']}"
            )
        except NotFound:
            # it has ended, and was archived or deleted since
            return

    async def _notify_pools(self) -> int:
        pools = await self._event_store.pools_with_pending(NOTIFY_AGAIN_SECONDS)
        for pool in pools:
            await self._notifications.request_sweep(pool)
        return len(pools)

    async def _notify_limited(self) -> int:
        """Of commands that a limit has kept waiting and lets begin now: their notifications may have been lost, or a
        rate lets them."""
        found = await self._event_store.startable(MAX_ITEMS)
        await self._notifications.notify(found.commands)
        if found.next_start is not None:
            await self._notifications.schedule_wakeup(found.next_start)
        # not all of them are allowed: one of these is no sign that there are more
        return min(len(found.commands), MAX_ITEMS - 1)

    async def _run_housekeeping(self) -> int:
        if self._housekeeping_done_at is not None and monotonic() - self._housekeeping_done_at < HOUSEKEEPING_SECONDS:
            return 0
        await self._event_store.ensure_partitions()
        await self._schedules.prune(self._now() - RUN_HISTORY)
        self._housekeeping_done_at = monotonic()
        return 0
