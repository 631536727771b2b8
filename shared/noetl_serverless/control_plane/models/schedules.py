from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from ...errors import InvalidRequest
from ...protocol import StorableText
from ...store.overlap import OverlapPolicy
from ...store.schedule import Schedule
from ...store.schedule_spec import MissedPolicy
from ...store.schedules import MAX_BACKFILL_RUNS
from . import AnswerModel, Instant, PlaybookPath, RequestModel

RunStatus = Literal["open", "waiting", "started", "skipped", "failed"]
# without an offset, an instant is read in the schedule's time zone
START = "Not due before; an interval counts from it. Read in `timezone` unless it has an offset."
END = "Not due after. Read in `timezone` unless it has an offset."
MISSED = (
    "How to handle missed runs. skip: start the latest if it was due within the last 90 seconds, and none otherwise. "
    "fire_once: start one for all of them, the latest. catch_up: start each of the latest 100. The others are dropped."
)
OVERLAP = (
    "How to handle a run that is due while an earlier one still runs: start it, skip it, let one wait until no other "
    "runs and skip those that are due meanwhile, or cancel the earlier one."
)
ZONE = "Of the cron line, and of `start_at` and `end_at` without an offset."
JITTER = "Start each run up to this many seconds after it is due; less than the interval."


class CreateSchedule(RequestModel):
    playbook_path: PlaybookPath = Field(min_length=1, validation_alias=AliasChoices("playbook_path", "path"))
    playbook_version: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("playbook_version", "version"),
        description="Version of the playbook; by default, the newest at the time of each run.",
    )
    name: StorableText | None = Field(
        default=None, min_length=1, max_length=200, pattern=r"^[^/\x00]*[^/\d\x00][^/\x00]*$"
    )
    cron: StorableText | None = Field(default=None, max_length=200, examples=["30 6 * * 1-5"])
    interval_seconds: int | None = Field(default=None, ge=1, le=366 * 86400)
    timezone: StorableText = Field(default="UTC", max_length=100, description=ZONE, examples=["Europe/Berlin"])
    enabled: bool = True
    missed_policy: MissedPolicy = Field(default="fire_once", description=MISSED)
    overlap_policy: OverlapPolicy = Field(default="allow", description=OVERLAP)
    jitter_seconds: int = Field(default=0, ge=0, le=86400, description=JITTER)
    start_at: datetime | None = Field(default=None, description=START)
    end_at: datetime | None = Field(default=None, description=END)
    input_payload: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("input_payload", "payload")
    )
    meta: dict[str, Any] = Field(default_factory=dict)


class UpdateSchedule(RequestModel):
    """What is left out stays as it is."""

    playbook_path: PlaybookPath | None = Field(
        default=None, min_length=1, validation_alias=AliasChoices("playbook_path", "path")
    )
    playbook_version: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("playbook_version", "version"),
        description="Version of the playbook; null for the newest at the time of each run.",
    )
    cron: StorableText | None = Field(
        default=None, max_length=200, description="Takes the place of `interval_seconds`."
    )
    interval_seconds: int | None = Field(default=None, ge=1, le=366 * 86400, description="Takes the place of `cron`.")
    timezone: StorableText | None = Field(default=None, max_length=100, description=ZONE)
    missed_policy: MissedPolicy | None = Field(default=None, description=MISSED)
    overlap_policy: OverlapPolicy | None = Field(default=None, description=OVERLAP)
    jitter_seconds: int | None = Field(default=None, ge=0, le=86400, description=JITTER)
    start_at: datetime | None = Field(default=None, description=f"{START} null for none.")
    end_at: datetime | None = Field(default=None, description=f"{END} null for none.")
    input_payload: dict[str, Any] | None = Field(
        default=None, validation_alias=AliasChoices("input_payload", "payload")
    )
    meta: dict[str, Any] | None = None

    def changes(self) -> dict[str, Any]:
        """Fields of the schedule by name. Raises InvalidRequest for null where there must be a value."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name in given.keys() - CLEARABLE:
            if given[name] is None:
                raise InvalidRequest(f"{name} cannot be null; leave it out to keep its value")
        if given.get("cron") is not None:
            given.setdefault("interval_seconds", None)
        elif given.get("interval_seconds") is not None:
            given.setdefault("cron", None)
        return given


CLEARABLE = frozenset({"playbook_version", "cron", "interval_seconds", "start_at", "end_at"})


class Backfill(RequestModel):
    """An instant without an offset is read in the schedule's time zone."""

    from_: datetime = Field(alias="from", description="The first due time, inclusive.", examples=["2026-05-01"])
    to: datetime = Field(description="The end, exclusive; not after now.", examples=["2026-06-01"])
    max_runs: int = Field(
        default=100, ge=1, le=MAX_BACKFILL_RUNS, description="Refuse a range with more runs than this."
    )
    dry_run: bool = Field(default=False, description="Only list the runs.")


class BackfillRun(AnswerModel):
    due_at: datetime
    is_new: bool = Field(description="Whether this request owes it; otherwise it was owed or started before.")


class Backfilled(AnswerModel):
    schedule_id: str
    name: str | None
    dry_run: bool
    new: int = Field(description="How many of the runs are new.")
    runs: list[BackfillRun] = Field(description="Oldest first.")


class ListDue(RequestModel):
    count: int = Field(default=10, ge=1, le=100)
    after: datetime | None = Field(
        default=None, description="By default, now. Read in the schedule's time zone unless it has an offset."
    )


class Due(AnswerModel):
    due_at: datetime
    start_at: datetime = Field(description="When it starts: `due_at`, and up to `jitter_seconds` more.")


class DueTimes(AnswerModel):
    items: list[Due]


class ListRuns(RequestModel):
    status: RunStatus | None = None
    backfill: bool | None = None
    before: Instant | None = Field(default=None, description="List runs due before this.")
    limit: int = Field(default=100, ge=1, le=1000)


class ListSchedules(RequestModel):
    path: PlaybookPath | None = None
    enabled: bool | None = None
    limit: int = Field(default=1000, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)


class ScheduleRun(AnswerModel):
    due_at: datetime
    start_at: datetime = Field(description="When it may start: `due_at`, and up to `jitter_seconds` more.")
    status: RunStatus = Field(description="waiting: until no other run of the schedule runs.")
    backfill: bool = Field(description="Whether it was requested for a time in the past.")
    reason: str | None = Field(description="Why it was skipped.")
    execution_id: str | None
    execution_status: str | None
    error: dict[str, Any] | None

    @field_validator("execution_id", mode="before")
    @classmethod
    def _decimal(cls, value: int | str | None) -> str | None:
        return None if value is None else str(value)


class ScheduleEntry(AnswerModel):
    schedule_id: str
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
    last_run_at: datetime | None = Field(
        description="When the latest run was due, or was started by `trigger`. Runs of a backfill do not count."
    )
    last_status: str | None = Field(description="What became of that run.")
    last_execution_id: str | None
    input_payload: dict[str, Any]
    meta: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduleEntry:
        values = {name: getattr(schedule, name) for name in ScheduleEntry.model_fields}
        last = schedule.last_execution_id
        values["schedule_id"] = str(schedule.schedule_id)
        values["last_execution_id"] = None if last is None else str(last)
        return cls(**values)


class ScheduleDetail(ScheduleEntry):
    runs: list[ScheduleRun] = Field(default_factory=list, description="Latest runs, newest first.")


class ScheduleEntries(AnswerModel):
    items: list[ScheduleEntry]
    next: int | None = Field(default=None, description="Value of `offset` for the next page; null on the last page.")


class DeletedSchedule(AnswerModel):
    status: Literal["deleted"] = "deleted"
    schedule_id: str
    name: str | None


class TriggerSchedule(RequestModel):
    payload: dict[str, Any] | None = Field(default=None, description="Values merged into the schedule's own input.")
