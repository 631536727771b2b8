"""Schedules: created, changed, turned on and off, deleted; and their runs, those for times in the past among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from ..errors import Conflict, InvalidRequest, NotFound
from .connection import Connection
from .ids import fresh_id, parse_id
from .overlap import OverlapPolicy
from .schedule import Schedule
from .schedule_runs import RUN_LEASE, DueRun, ScheduleRuns
from .schedule_spec import MissedPolicy, due_between, due_runs, in_zone, next_run

__all__ = ["MAX_BACKFILL_RUNS", "RUN_LEASE", "BackfillRun", "DueRun", "Schedule", "Schedules"]

# the most runs that one request for a backfill may owe
MAX_BACKFILL_RUNS = 1000
# what a schedule is due by; a change of these gives it another next run
TIMES = frozenset({"cron", "interval_seconds", "timezone", "start_at", "end_at"})
DISABLED = "the schedule was disabled"


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """`is_new`: owed by this request, and not there before."""

    due_at: datetime
    is_new: bool


class Schedules(ScheduleRuns):
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
        overlap_policy: OverlapPolicy = "allow",
        jitter_seconds: int = 0,
        start_at: datetime | None = None,
        end_at: datetime | None = None,
        input_payload: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Schedule:
        """Raises InvalidRequest if its times are invalid, Conflict if the name is taken."""
        # whole seconds: when a run is due is part of its idempotency key
        now = now.replace(microsecond=0)
        schedule = Schedule(
            schedule_id=fresh_id(),
            name=name,
            playbook_path=playbook_path,
            playbook_version=playbook_version,
            cron=cron,
            interval_seconds=interval_seconds,
            timezone=timezone,
            enabled=enabled,
            missed_policy=missed_policy,
            overlap_policy=overlap_policy,
            jitter_seconds=jitter_seconds,
            start_at=_instant(start_at, timezone),
            end_at=_instant(end_at, timezone),
            next_run_at=None,
            last_run_at=None,
            last_status=None,
            last_execution_id=None,
            input_payload=input_payload or {},
            meta=meta or {},
            created_at=now,
            updated_at=now,
        )
        schedule.spec.check()
        if enabled:
            schedule = replace(schedule, next_run_at=next_run(schedule.spec, now))
        values = {"schedule_id": schedule.schedule_id, "name": name, **_changeable(schedule, now)}
        rows = await self._database.rows(self._sql["insert"], **values)
        if not rows:
            raise Conflict(f"there is already a schedule named {name!r}")
        return Schedule.of(rows[0])

    async def get(self, name_or_id: str) -> Schedule:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["get"], name=name_or_id, schedule_id=parse_id(name_or_id))
        if not rows:
            raise _not_found(name_or_id)
        return Schedule.of(rows[0])

    async def entries(
        self, *, path: str | None = None, enabled: bool | None = None, limit: int, offset: int
    ) -> list[Schedule]:
        rows = await self._database.rows(self._sql["entries"], path=path, enabled=enabled, limit=limit, offset=offset)
        return [Schedule.of(row) for row in rows]

    async def set_enabled(self, name_or_id: str, enabled: bool, now: datetime) -> Schedule:
        """Turn it on, due next after `now`, or off. Missed runs are not made up for, and those that are owed and were
        not begun are skipped. Raises NotFound."""
        return await self.update(name_or_id, {"enabled": enabled}, now)

    async def update(self, name_or_id: str, changes: Mapping[str, Any], now: datetime) -> Schedule:
        """Change fields by name. If that changes when it is due, it is due next after `now`; what it already owed by
        its former times stays owed. Raises NotFound, and InvalidRequest if its times are then invalid."""
        schedule = await self.get(name_or_id)
        found = await self._database.transaction(
            lambda connection: self._update(connection, schedule.schedule_id, changes, now)
        )
        if found is None:
            raise _not_found(name_or_id)
        return found

    async def delete(self, name_or_id: str) -> Schedule:
        """Delete a schedule and return it; raises NotFound. A run that is being started at this moment may still
        start."""
        schedule = await self.get(name_or_id)
        await self._database.run(self._sql["delete"], schedule_id=schedule.schedule_id)
        return schedule

    async def backfill(
        self, name_or_id: str, first: datetime, before: datetime, now: datetime, *, max_runs: int, dry_run: bool = False
    ) -> list[BackfillRun]:
        """Owe the runs that were due from `first`, inclusive, to `before`, exclusive, except those that are owed or
        were started; `dry_run` changes nothing. Instants without an offset are read in the schedule's time zone. Raises
        NotFound, and InvalidRequest for more than `max_runs` runs, or a range that is not in the past."""
        schedule = await self.get(name_or_id)
        first, before = in_zone(first, schedule.timezone), in_zone(before, schedule.timezone)
        if first >= before:
            raise InvalidRequest("a backfill needs a range: from must be before to")
        if before > now:
            raise InvalidRequest("a backfill is for the past: to must not be after now")
        found = await self._database.transaction(
            lambda connection: self._backfill(connection, schedule.schedule_id, first, before, now, max_runs, dry_run)
        )
        if found is None:
            raise _not_found(name_or_id)
        return found

    def _update(
        self, connection: Connection, schedule_id: int, changes: Mapping[str, Any], now: datetime
    ) -> Schedule | None:
        rows = connection.rows(self._sql["lock"], schedule_id=schedule_id)
        if not rows:
            return None
        before = Schedule.of(rows[0])
        zone = changes.get("timezone", before.timezone)
        bounds = {name: _instant(changes[name], zone) for name in ("start_at", "end_at") if name in changes}
        after = replace(before, **{**changes, **bounds})
        if after == before:
            return before
        next_run_at = before.next_run_at
        if any(getattr(after, name) != getattr(before, name) for name in TIMES) or after.jitter_seconds:
            after.spec.check()
        if before.enabled and next_run_at is not None and next_run_at <= now:
            owed = due_runs(before.spec, before.missed_policy, next_run_at, now)
            next_run_at = self._advance(connection, before, *owed)
        if any(getattr(after, name) != getattr(before, name) for name in (*TIMES, "enabled")):
            next_run_at = next_run(after.spec, now) if after.enabled else None
        if before.enabled and not after.enabled:
            connection.run(self._sql["withdraw"], schedule_id=schedule_id, reason=DISABLED)
        if after.overlap_policy != before.overlap_policy:
            connection.run(self._sql["reconsider"], schedule_id=schedule_id)
        values = {"schedule_id": schedule_id, **_changeable(replace(after, next_run_at=next_run_at), now)}
        return Schedule.of(connection.rows(self._sql["update"], **values)[0])

    def _backfill(
        self,
        connection: Connection,
        schedule_id: int,
        first: datetime,
        before: datetime,
        now: datetime,
        max_runs: int,
        dry_run: bool,
    ) -> list[BackfillRun] | None:
        rows = connection.rows(self._sql["lock"], schedule_id=schedule_id)
        if not rows:
            return None
        schedule = Schedule.of(rows[0])
        due = due_between(schedule.spec, first, before, max_runs + 1)
        if len(due) > max_runs:
            raise InvalidRequest(
                f"the range has more than {max_runs} runs; the last of these is due at {due[-2].isoformat()}. "
                f"Shorten it, or allow more, with max_runs (--max), {MAX_BACKFILL_RUNS} at most"
            )
        if dry_run:
            there = {row[0] for row in connection.run(self._sql["settled_or_owed"], schedule_id=schedule_id, due=due)}
            return [BackfillRun(instant, instant not in there) for instant in due]
        # in turn, where they must not overlap
        status = "open" if schedule.overlap_policy == "allow" else "waiting"
        values = {"schedule_id": schedule_id, "due": due, "status": status, "now": now}
        new = {row[0] for row in connection.run(self._sql["insert_backfill"], **values)}
        return [BackfillRun(instant, instant in new) for instant in due]


def _changeable(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """The parameters of `insert` and `update`."""
    return {
        "playbook_path": schedule.playbook_path,
        "playbook_version": schedule.playbook_version,
        "cron": schedule.cron,
        "interval_seconds": schedule.interval_seconds,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "missed_policy": schedule.missed_policy,
        "overlap_policy": schedule.overlap_policy,
        "jitter_seconds": schedule.jitter_seconds,
        "start_at": schedule.start_at,
        "end_at": schedule.end_at,
        "next_run_at": schedule.next_run_at,
        "input_payload": orjson.dumps(schedule.input_payload).decode(),
        "meta": orjson.dumps(schedule.meta).decode(),
        "now": now,
    }


def _instant(given: datetime | None, timezone: str) -> datetime | None:
    return None if given is None else in_zone(given, timezone).replace(microsecond=0)


def _not_found(name_or_id: str) -> NotFound:
    return NotFound(f"there is no schedule {name_or_id!r}")
