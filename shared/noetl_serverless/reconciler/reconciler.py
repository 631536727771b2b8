"""One bounded pass. Any number may run at once: each item is taken under SKIP LOCKED or by compare-and-set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic, perf_counter

from ..errors import Problem, Unavailable
from ..ledger.doorbell import Doorbell
from ..ledger.ledger import Ledger
from ..store.log import Log
from ..store.schedules import Fire, Schedules
from ..telemetry import metrics
from .departures import Departures

logger = logging.getLogger(__name__)

# how much of each kind one pass does
LIMIT = 200
# how long a command may wait before its worker is rung again, in seconds
PATIENCE = 1.0
HOUSEKEEPING = 3600.0
KEEP_RUNS = timedelta(days=90)


class Reconciler:
    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        schedules: Schedules,
        doorbell: Doorbell,
        *,
        max_deliveries: int,
        departures: Departures | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._schedules = schedules
        self._doorbell = doorbell
        self._max_deliveries = max_deliveries
        self._departures = departures
        self._now = now
        self._housekept: float | None = None

    async def reconcile(self) -> dict[str, int]:
        """What was done, by kind. Raises Unavailable while the database is away."""
        started = perf_counter()
        pulse = await self._log.pulse(PATIENCE)
        done: dict[str, int] = {}
        if pulse.expired:
            done["expired"] = await self._expire()
            done["buried"] = await self._bury()
        if pulse.lagging:
            done["advanced"] = await self._advance()
        if pulse.due:
            done["timers"] = await self._fire_timers()
        if pulse.scheduled:
            done["schedules"] = await self._fire_schedules()
        if pulse.waiting:
            done["rung"] = await self._ring()
        if pulse.chores and self._departures is not None:
            done.update(await self._departures.chore())
        await self._keep_house()
        for action, count in done.items():
            metrics.reconciler_actions.labels(action).inc(count)
        metrics.reconciler_seconds.observe(perf_counter() - started)
        return {action: count for action, count in done.items() if count}

    async def _expire(self) -> int:
        waiting = await self._log.expire(self._max_deliveries, LIMIT)
        for _, key in waiting:
            logger.warning(
                "a worker's lease ran out; its command is given to another",
                extra={"execution_id": key.execution_id, "command_id": key.command_id},
            )
        await self._doorbell.ring(waiting)
        return len(waiting)

    async def _bury(self) -> int:
        buried = 0
        for dead in await self._log.poisoned(self._max_deliveries, LIMIT):
            if await self._ledger.bury(dead):
                buried += 1
                extra = {"execution_id": dead.execution_id, "command_id": dead.command_id}
                logger.error("a command was given up after %d deliveries", dead.deliveries, extra=extra)
        return buried

    async def _advance(self) -> int:
        return await self._ledger.advance(await self._log.lagging(LIMIT))

    async def _fire_timers(self) -> int:
        fired = 0
        for execution_id, timer, step, generation in await self._log.due(LIMIT):
            fired += await self._ledger.fire(execution_id, timer, step, generation)
        return fired

    async def _fire_schedules(self) -> int:
        fires = await self._schedules.claim_due(self._now(), LIMIT)
        for fire in fires:
            await self._start(fire)
        return len(fires)

    async def _start(self, fire: Fire) -> None:
        try:
            started = await self._ledger.start(
                path=fire.playbook_path,
                version=fire.playbook_version,
                payload=fire.input_payload,
                idempotency_key=fire.idempotency_key,
            )
        except Unavailable as problem:
            logger.warning("schedule %s starts later: %s", fire.schedule_id, problem)
        except Problem as problem:
            logger.error("schedule %s cannot start: %s", fire.schedule_id, problem)
            await self._schedules.failed(fire, problem)
        else:
            await self._schedules.started(fire, int(started.execution_id))

    async def _ring(self) -> int:
        pools = await self._log.waiting_pools(PATIENCE)
        for pool in pools:
            await self._doorbell.sweep(pool)
        return len(pools)

    async def _keep_house(self) -> None:
        if self._housekept is not None and monotonic() - self._housekept < HOUSEKEEPING:
            return
        await self._log.ensure_partitions()
        await self._schedules.prune(self._now() - KEEP_RUNS)
        self._housekept = monotonic()
