from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ...archive.messages import File
from ...store.archives import ArchiveBatch, PlannedBatch
from . import AnswerModel, Id, Instant, RequestModel


class ArchiveNow(RequestModel):
    """Plan a few batches and invoke a worker. If the response has `more` set, call again once they are written."""

    before: Instant | None = Field(
        default=None,
        description="Archive executions that ended before this time; by default, those older than archive_after_days.",
    )
    dry_run: bool = Field(default=False, description="Report what is due without planning batches.")
    plan: bool = Field(
        default=True, description="Plan new batches; if false, only invoke a worker for the batches that wait."
    )


class DueEntry(AnswerModel):
    month: str
    executions: int
    events: int

    @classmethod
    def of(cls, due: PlannedBatch) -> DueEntry:
        return cls(month=due.month, executions=due.executions, events=due.events)


class Planned(AnswerModel):
    before: datetime
    due: list[DueEntry] = Field(description="Due executions by month, with dry_run.")
    planned: list[str] = Field(description="Archive ids of the batches that were planned.")
    more: bool = Field(description="Whether more executions may be due.")
    waiting: int = Field(description="Number of batches whose files are not written yet, including earlier ones.")


class ArchiveEntry(AnswerModel):
    archive_id: str
    status: Literal["planned", "registered"]
    month: str
    first_execution_id: str
    last_execution_id: str
    executions: int
    events: int
    files: dict[str, File] = Field(description="Files by table (events, executions, results) and the log.")
    bytes: int
    attempts: int
    error: str | None = Field(description="Error of the last attempt to write the batch.")
    created_at: datetime
    registered_at: datetime | None = Field(description="Time since which the executions are read from the files.")
    purged_at: datetime | None = Field(description="Time at which their events were deleted from the database.")

    @classmethod
    def of(cls, archive: ArchiveBatch) -> ArchiveEntry:
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
    ids: str | None = Field(
        default=None,
        pattern=r"^[0-9]{1,19}(,[0-9]{1,19}){0,99}$",
        description="List only the batches with these ids, separated by commas.",
    )
    before: Id | None = Field(default=None, description="List only batches older than this one.")
    limit: int = Field(default=100, ge=1, le=1000)


class AfterExecution(RequestModel):
    after: Id = "0"


class AfterEvent(RequestModel):
    after: Id = "0"
    seq: int = Field(default=0, ge=0)
