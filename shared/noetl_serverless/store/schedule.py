"""A row of the table of schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from .overlap import OverlapPolicy
from .schedule_spec import MissedPolicy, ScheduleSpec


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
    overlap_policy: OverlapPolicy
    jitter_seconds: int
    start_at: datetime | None
    end_at: datetime | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    last_execution_id: int | None
    input_payload: dict[str, Any]
    meta: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Schedule:
        """A later release may have more columns; a schedule that the release before has created has no policies."""
        values = {field.name: row[field.name] for field in fields(cls)}
        values["overlap_policy"] = values["overlap_policy"] or "allow"
        values["jitter_seconds"] = values["jitter_seconds"] or 0
        return cls(**values)

    @property
    def spec(self) -> ScheduleSpec:
        return ScheduleSpec(
            # an interval counts from the start, if there is one
            self.start_at or self.created_at,
            cron=self.cron,
            interval=self.interval_seconds,
            timezone=self.timezone,
            start=self.start_at,
            end=self.end_at,
            jitter=self.jitter_seconds,
        )
