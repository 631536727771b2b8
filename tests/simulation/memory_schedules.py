"""Schedules in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from noetl_serverless.errors import Problem
from noetl_serverless.store.schedule_spec import MissedPolicy, ScheduleSpec, due_runs, next_due
from noetl_serverless.store.schedules import RUN_LEASE, DueRun


@dataclass(slots=True)
class Timetable:
    """One schedule."""

    schedule_id: int
    spec: ScheduleSpec
    path: str
    payload: dict[str, Any]
    policy: MissedPolicy
    next_run_at: datetime | None


@dataclass(slots=True)
class PendingRun:
    status: str = "open"
    lease_until: datetime | None = None
    execution_id: int | None = None


@dataclass(slots=True)
class MemorySchedules:
    """`Schedules` without its listings: `claim_due` comes in its two statements, each atomic."""

    now: Callable[[], datetime]
    tables: dict[int, Timetable] = field(default_factory=dict)
    fires: dict[tuple[int, datetime], PendingRun] = field(default_factory=dict)

    def add(self, id: int, path: str, payload: dict[str, Any], every: int, policy: MissedPolicy) -> None:
        spec = ScheduleSpec(self.now().replace(microsecond=0), interval=every)
        self.tables[id] = Timetable(id, spec, path, payload, policy, next_due(spec, self.now()))

    def turn_off(self) -> None:
        for table in self.tables.values():
            table.next_run_at = None

    def due(self) -> bool:
        now = self.now()
        return any(run.status == "open" for run in self.fires.values()) or any(
            table.next_run_at is not None and table.next_run_at <= now for table in self.tables.values()
        )

    async def move_on(self, now: datetime, limit: int) -> None:
        for table in list(self.tables.values())[:limit]:
            if table.next_run_at is not None and table.next_run_at <= now:
                run, after = due_runs(table.spec, table.policy, table.next_run_at, now)
                for at in run:
                    self.fires.setdefault((table.schedule_id, at), PendingRun())
                table.next_run_at = after

    async def claim(self, now: datetime, limit: int) -> list[DueRun]:
        free = [
            key
            for key, run in sorted(self.fires.items(), key=lambda item: item[0][1])
            if run.status == "open" and (run.lease_until is None or run.lease_until <= now)
        ]
        for key in free[:limit]:
            self.fires[key].lease_until = now + RUN_LEASE
        return [
            DueRun(
                schedule_id=id,
                due_at=at,
                playbook_path=self.tables[id].path,
                playbook_version=None,
                input_payload=self.tables[id].payload,
                lease_until=self.fires[(id, at)].lease_until,
            )
            for id, at in free[:limit]
        ]

    async def hold(self, run: DueRun, now: datetime) -> bool:
        pending = self.fires[(run.schedule_id, run.due_at)]
        if pending.status != "open" or pending.lease_until != run.lease_until:
            return False
        pending.lease_until = now + RUN_LEASE
        return True

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        pending = self.fires[(run.schedule_id, run.due_at)]
        pending.status, pending.execution_id = "started", execution_id

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        self.fires[(run.schedule_id, run.due_at)].status = "failed"

    async def prune(self, before: datetime, limit: int = 1000) -> None:
        for key in [key for key, run in self.fires.items() if run.status != "open" and key[1] < before]:
            del self.fires[key]
