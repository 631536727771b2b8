from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from ...archive.messages import File
from ...store.archives import Archive, PlannedBatch
from . import Id, RequestModel


class ArchiveNow(RequestModel):
    """Plans a few batches and invokes a worker. If `more` is set in the answer, call again once they are written."""

    before: AwareDatetime | None = Field(
        default=None, description="Executions that ended before; by default those older than archive_after_days."
    )
    dry_run: bool = Field(default=False, description="Say what is due, and plan nothing.")
    plan: bool = Field(default=True, description="Without it, only invoke a worker for the batches that wait.")


class DueEntry(BaseModel):
    month: str
    executions: int
    events: int

    @classmethod
    def of(cls, due: PlannedBatch) -> DueEntry:
        return cls(month=due.month, executions=due.executions, events=due.events)


class Planned(BaseModel):
    before: datetime
    due: list[DueEntry] = Field(description="What is due, by month, with dry_run.")
    planned: list[str] = Field(description="The batches that were planned, by archive id.")
    more: bool = Field(description="Whether there may be more than these.")
    waiting: int = Field(description="How many batches wait for their files, these and others.")


class ArchiveEntry(BaseModel):
    archive_id: str
    status: Literal["planned", "registered"]
    month: str
    first_execution_id: str
    last_execution_id: str
    executions: int
    events: int
    files: dict[str, File] = Field(description="By table: events, executions, results; and the log.")
    bytes: int
    attempts: int
    error: str | None = Field(description="Why the last attempt came to nothing.")
    created_at: datetime
    registered_at: datetime | None = Field(description="Since then the executions are read from the files.")
    purged_at: datetime | None = Field(description="Since then their events are gone from the database.")

    @classmethod
    def of(cls, archive: Archive) -> ArchiveEntry:
        names = (
            *("month", "executions", "events", "attempts", "error", "created_at", "registered_at", "purged_at"),
            "status",
        )
        files = archive.files or {}
        return cls(
            archive_id=str(archive.archive_id),
            first_execution_id=str(archive.first_id),
            last_execution_id=str(archive.last_id),
            files={name: File(**file) for name, file in files.items()},
            bytes=sum(file["bytes"] for file in files.values()),
            **{name: getattr(archive, name) for name in names},
        )


class ListArchives(RequestModel):
    ids: str | None = Field(default=None, pattern=r"^[0-9]{1,19}(,[0-9]{1,19}){0,99}$", description="Only these.")
    before: Id | None = Field(default=None, description="Only those older than this one.")
    limit: int = Field(default=100, ge=1, le=1000)


class AfterExecution(RequestModel):
    after: Id = "0"


class AfterEvent(RequestModel):
    after: Id = "0"
    seq: int = Field(default=0, ge=0)
