"""Schedules, and the runs they owe.

Firing takes three steps, each safe to repeat and to lose: `claim_due` records the due runs and advances the
schedules, in one transaction, and leases the runs; the caller starts each execution under
`DueRun.idempotency_key`, so starting twice starts one; `record_started` or `record_failed` settles the run. A run
that was leased and not settled is leased again later.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from ..errors import Conflict, NotFound, Problem
from .connection import Connection
from .database import Database
from .ids import fresh_id, parse_id
from .queries import load
from .schedule_spec import MissedPolicy, ScheduleSpec, due_runs, next_due

logger = logging.getLogger(__name__)

# how long a reconciler has to start what it claimed
RUN_LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Schedule:
    schedule_id: int
    name: str | None
    playbook_path: str
    playbook_version: int | None
    cron: str | None
    interval_seconds: int | None
    timezone: str
    enabled: bool
    missed_policy: MissedPolicy
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    last_execution_id: int | None
    input_payload: dict[str, Any]
    meta: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def spec(self) -> ScheduleSpec:
        return ScheduleSpec(self.created_at, self.cron, self.interval_seconds, self.timezone)


@dataclass(kw_only=True, frozen=True, slots=True)
class DueRun:
    """One run that is due."""

    schedule_id: int
    due_at: datetime
    playbook_path: str
    playbook_version: int | None
    input_payload: dict[str, Any]

    @property
    def idempotency_key(self) -> str:
        return f"schedule:{self.schedule_id}:{int(self.due_at.timestamp())}"


class Schedules:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("schedules")

    async def create(
        self,
        now: datetime,
        *,
        playbook_path: str,
        playbook_version: int | None = None,
        name: str | None = None,
        cron: str | None = None,
        interval_seconds: int | None = None,
        timezone: str = "UTC",
        enabled: bool = True,
        missed_policy: MissedPolicy = "fire_once",
        input_payload: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Schedule:
        """Raises InvalidRequest if its times are invalid, Conflict if the name is taken."""
        # whole seconds: when a run is due is part of its idempotency key
        now = now.replace(microsecond=0)
        spec = ScheduleSpec(now, cron, interval_seconds, timezone)
        spec.check()
        rows = await self._database.rows(
            self._sql["insert"],
            schedule_id=fresh_id(),
            name=name,
            playbook_path=playbook_path,
            playbook_version=playbook_version,
            cron=cron,
            interval_seconds=interval_seconds,
            timezone=timezone,
            enabled=enabled,
            missed_policy=missed_policy,
            next_run_at=next_due(spec, now) if enabled else None,
            input_payload=orjson.dumps(input_payload or {}).decode(),
            meta=orjson.dumps(meta or {}).decode(),
            now=now,
        )
        if not rows:
            raise Conflict(f"there is already a schedule named {name!r}")
        return Schedule(**rows[0])

    async def get(self, name_or_id: str) -> Schedule:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["get"], name=name_or_id, schedule_id=parse_id(name_or_id))
        if not rows:
            raise NotFound(f"there is no schedule {name_or_id!r}")
        return Schedule(**rows[0])

    async def entries(
        self, *, path: str | None = None, enabled: bool | None = None, limit: int, offset: int
    ) -> list[Schedule]:
        rows = await self._database.rows(self._sql["entries"], path=path, enabled=enabled, limit=limit, offset=offset)
        return [Schedule(**row) for row in rows]

    async def set_enabled(self, name_or_id: str, enabled: bool, now: datetime) -> Schedule:
        """Turn it on, due next after `now`, or off; missed runs are not made up for. Raises NotFound."""
        schedule = await self.get(name_or_id)
        if schedule.enabled == enabled:
            return schedule
        rows = await self._database.rows(
            self._sql["set_enabled"],
            schedule_id=schedule.schedule_id,
            enabled=enabled,
            next_run_at=next_due(schedule.spec, now) if enabled else None,
            now=now,
        )
        if not rows:
            raise NotFound(f"there is no schedule {name_or_id!r}")
        return Schedule(**rows[0])

    async def delete(self, name_or_id: str) -> Schedule:
        """Delete a schedule and return it; raises NotFound."""
        schedule = await self.get(name_or_id)
        await self._database.run(self._sql["delete"], schedule_id=schedule.schedule_id)
        return schedule

    async def runs(self, schedule_id: int, limit: int = 20) -> list[dict[str, Any]]:
        """The latest runs, newest first: due_at, status (open, started, failed), execution_id, error."""
        return await self._database.rows(self._sql["runs"], schedule_id=schedule_id, limit=limit)

    async def claim_due(self, now: datetime, limit: int) -> list[DueRun]:
        """Runs due at `now`, leased to the caller, which starts and settles each; at most `limit`."""
        await self._database.transaction(lambda connection: self._advance(connection, now, limit))
        rows = await self._database.rows(self._sql["claim"], now=now, lease_until=now + RUN_LEASE, limit=limit)
        return [DueRun(**row) for row in rows]

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        await self._end_run(run, "started", execution_id, None)

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        """Record that a run cannot be started, as when its playbook is gone; it will not be tried again."""
        await self._end_run(run, "failed", None, problem.to_dict())

    async def record_latest_run(self, schedule_id: int, at: datetime, status: str, execution_id: int | None) -> None:
        """Record what the schedule shows as its latest run; a run before that changes nothing."""
        await self._database.run(
            self._sql["record_latest_run"], schedule_id=schedule_id, at=at, status=status, execution_id=execution_id
        )

    async def prune(self, before: datetime, limit: int = 1000) -> None:
        """Delete settled runs due before `before`."""
        await self._database.run(self._sql["prune"], before=before, limit=limit)

    def _advance(self, connection: Connection, now: datetime, limit: int) -> None:
        for row in connection.rows(self._sql["due"], now=now, limit=limit):
            schedule = Schedule(**row)
            assert schedule.next_run_at is not None
            try:
                due, next_run_at = due_runs(schedule.spec, schedule.missed_policy, schedule.next_run_at, now)
            except Exception:
                # it is off until somebody turns it on again; the others continue
                logger.exception("the next run of schedule %s cannot be computed: it is disabled", schedule.schedule_id)
                connection.run(self._sql["disable"], schedule_id=schedule.schedule_id, now=now)
                continue
            connection.run(self._sql["insert_runs"], schedule_id=schedule.schedule_id, due=due)
            connection.run(self._sql["set_next_run"], schedule_id=schedule.schedule_id, next_run_at=next_run_at)

    async def _end_run(self, run: DueRun, status: str, execution_id: int | None, error: dict[str, Any] | None) -> None:
        await self._database.run(
            self._sql["end_run"],
            schedule_id=run.schedule_id,
            due_at=run.due_at,
            status=status,
            execution_id=execution_id,
            error=None if error is None else orjson.dumps(error).decode(),
        )
        await self.record_latest_run(run.schedule_id, run.due_at, status, execution_id)
