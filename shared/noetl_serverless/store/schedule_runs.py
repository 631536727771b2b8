"""The runs that schedules owe.

Starting one takes four steps, each safe to repeat and to lose: `claim_due` records the due runs and advances the
schedules, in one transaction, and leases runs; `hold` extends the lease, unless the run was taken, withdrawn or deleted
meanwhile; the caller starts the execution under `DueRun.idempotency_key`, so starting twice starts one; and
`record_started`, `record_skipped` or `record_failed` settles the run. A run that was leased and not settled is leased
again later.

Of a schedule whose runs must not overlap, one run is leased at a time, under a lock of the schedule: whoever has the
lease decides alone, and what it knows of the other runs stays true. A run that was leased before comes first, since it
may have been started.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from ..errors import Problem
from .connection import Connection
from .database import Database
from .overlap import NO_OVERLAP, Overlap, text
from .queries import load
from .schedule import Schedule
from .schedule_spec import due_runs, start_of

logger = logging.getLogger(__name__)

# how long a reconciler has to start what it claimed
RUN_LEASE = timedelta(seconds=60)


@dataclass(kw_only=True, frozen=True, slots=True)
class DueRun:
    """One run that may start. `reason`: why nobody is to start it after all."""

    schedule_id: int
    due_at: datetime
    playbook_path: str
    playbook_version: int | None
    input_payload: dict[str, Any]
    name: str | None = None
    backfill: bool = False
    # of whom it is leased to
    lease_until: datetime | None = field(default=None, compare=False)
    # leased before, and not settled: it may have been started
    again: bool = field(default=False, compare=False)
    reason: str | None = None
    overlap: Overlap = NO_OVERLAP

    @property
    def idempotency_key(self) -> str:
        return f"schedule:{self.schedule_id}:{int(self.due_at.timestamp())}"

    @property
    def inputs(self) -> dict[str, Any]:
        """What a playbook may ask for as `workload.schedule`."""
        return {"name": self.name or str(self.schedule_id), "due_at": text(self.due_at), "backfill": self.backfill}


class ScheduleRuns:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("schedules")

    async def claim_due(self, now: datetime, limit: int) -> list[DueRun]:
        """Runs that may start at `now`, leased to the caller, which starts and settles each; at most `limit` that may
        overlap with others, and of each of at most `limit` other schedules one."""
        rows = await self._database.transaction(lambda connection: self._advance_and_claim(connection, now, limit))
        alone = [_alone(row) for row in rows]
        rows = await self._database.rows(self._sql["claim"], now=now, lease=RUN_LEASE.total_seconds(), limit=limit)
        # one that is withdrawn was leased before
        return alone + [DueRun(**row, again=row["reason"] is not None) for row in rows]

    async def hold(self, run: DueRun, now: datetime) -> bool:
        """Extend the caller's lease of a run that it is about to start. False if another has the run, or nobody is to
        start it any more."""
        return bool(
            await self._database.run(
                self._sql["hold"],
                schedule_id=run.schedule_id,
                due_at=run.due_at,
                lease_until=run.lease_until,
                now=now,
                lease=RUN_LEASE.total_seconds(),
            )
        )

    async def let_wait(self, run: DueRun) -> None:
        """Let it wait until no other run of its schedule runs; nothing if another has the run."""
        await self._database.run(
            self._sql["let_wait"], schedule_id=run.schedule_id, due_at=run.due_at, lease_until=run.lease_until
        )

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        await self._end_run(run, "started", execution_id=execution_id)

    async def record_skipped(self, run: DueRun, reason: str) -> None:
        await self._end_run(run, "skipped", reason=reason)

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        """Record that a run cannot be started, as when its playbook is gone; it will not be tried again."""
        await self._end_run(run, "failed", error=problem.to_dict())

    async def record_latest_run(self, schedule_id: int, at: datetime, status: str, execution_id: int | None) -> None:
        """Record what the schedule shows as its latest run; a run before that changes nothing."""
        await self._database.run(
            self._sql["record_latest_run"], schedule_id=schedule_id, at=at, status=status, execution_id=execution_id
        )

    async def prune(self, before: datetime, limit: int = 1000) -> None:
        """Delete settled runs that were due, and requested, before `before`."""
        await self._database.run(self._sql["prune"], before=before, limit=limit)

    async def runs(
        self,
        schedule_id: int,
        limit: int = 20,
        *,
        before: datetime | None = None,
        status: str | None = None,
        backfill: bool | None = None,
    ) -> list[dict[str, Any]]:
        """The runs due before `before`, the latest first: due_at, start_at, status, backfill, reason, error,
        execution_id, execution_status (null once the execution is deleted)."""
        return await self._database.rows(
            self._sql["runs"], schedule_id=schedule_id, limit=limit, before=before, status=status, backfill=backfill
        )

    def _advance_and_claim(self, connection: Connection, now: datetime, limit: int) -> list[dict[str, Any]]:
        [[now]] = connection.run(self._sql["now"], now=now)
        for row in connection.rows(self._sql["due"], now=now, limit=limit):
            schedule = Schedule.of(row)
            assert schedule.next_run_at is not None
            try:
                owed = due_runs(schedule.spec, schedule.missed_policy, schedule.next_run_at, now)
            except Exception:
                # it is off until somebody turns it on again; the others continue
                logger.exception("the next run of schedule %s cannot be computed: it is disabled", schedule.schedule_id)
                connection.run(self._sql["disable"], schedule_id=schedule.schedule_id, now=now)
                continue
            self._advance(connection, schedule, *owed)
        ids = [row["schedule_id"] for row in connection.rows(self._sql["one_at_a_time"], now=now, limit=limit)]
        if not ids:
            return []
        connection.run(self._sql["mark_ended"], ids=ids)
        return connection.rows(self._sql["claim_next"], ids=ids, now=now, lease=RUN_LEASE.total_seconds())

    def _advance(
        self,
        connection: Connection,
        schedule: Schedule,
        due: list[datetime],
        next_run_at: datetime | None,
    ) -> datetime | None:
        """Record the runs that a schedule, which is locked, owes, and when it is due next, which is returned."""
        starts = [start_of(schedule.spec, schedule.schedule_id, instant) for instant in due]
        connection.run(self._sql["insert_runs"], schedule_id=schedule.schedule_id, due=due, starts=starts)
        connection.run(self._sql["set_next_run"], schedule_id=schedule.schedule_id, next_run_at=next_run_at)
        return next_run_at

    async def _end_run(
        self,
        run: DueRun,
        status: str,
        *,
        execution_id: int | None = None,
        error: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        settled = await self._database.run(
            self._sql["end_run"],
            schedule_id=run.schedule_id,
            due_at=run.due_at,
            status=status,
            execution_id=execution_id,
            error=None if error is None else orjson.dumps(_storable(error)).decode(),
            reason=reason,
        )
        # runs for times in the past say nothing of how the schedule does now
        if settled and not run.backfill:
            await self.record_latest_run(run.schedule_id, run.due_at, status, execution_id)


def _storable(value: Any) -> Any:
    """An error may name the very text that cannot be stored, and must be stored itself."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _alone(row: dict[str, Any]) -> DueRun:
    """A run of a schedule whose runs must not overlap."""
    values = dict(row)
    overlap = Overlap(
        policy=values.pop("overlap_policy"),
        running=tuple(values.pop("running")),
        waiting_due_at=values.pop("waiting_due_at"),
        newer_due_at=values.pop("newer_due_at"),
    )
    return DueRun(**values, overlap=overlap)
