from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from ...store.schedule_spec import MissedPolicy
from ...store.schedules import Schedule
from . import AnswerModel, RequestModel


class CreateSchedule(RequestModel):
    playbook_path: str = Field(min_length=1, validation_alias=AliasChoices("playbook_path", "path"))
    playbook_version: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("playbook_version", "version"),
        description="Version of the playbook; by default, the newest at the time of each run.",
    )
    name: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[^/]*[^/\d][^/]*$")
    cron: str | None = Field(default=None, max_length=200, examples=["30 6 * * 1-5"])
    interval_seconds: int | None = Field(default=None, ge=1, le=366 * 86400)
    timezone: str = Field(default="UTC", max_length=100, examples=["Europe/Berlin"])
    enabled: bool = True
    missed_policy: MissedPolicy = Field(
        default="fire_once",
        description="How to handle missed runs: start none, one for all of them, or each of the last 100.",
    )
    input_payload: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("input_payload", "payload")
    )
    meta: dict[str, Any] = Field(default_factory=dict)


class ListSchedules(RequestModel):
    path: str | None = None
    enabled: bool | None = None
    limit: int = Field(default=1000, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)


class Run(AnswerModel):
    due_at: datetime
    status: Literal["open", "started", "failed"]
    execution_id: str | None
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
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
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
    runs: list[Run] = Field(default_factory=list, description="Latest runs, newest first.")


class ScheduleEntries(AnswerModel):
    items: list[ScheduleEntry]
    next: int | None = Field(default=None, description="Value of `offset` for the next page; null on the last page.")


class DeletedSchedule(AnswerModel):
    status: Literal["deleted"] = "deleted"
    schedule_id: str
    name: str | None


class TriggerSchedule(RequestModel):
    payload: dict[str, Any] | None = Field(default=None, description="Values merged into the schedule's own input.")
