from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from ...store.parity import Difference
from ...store.replays import Rebuilt, Recording
from . import Id, RequestModel

# at most this many results and commands are in a recording; listResults and listCommands return the rest
MAX_ROWS = 1000

Projection = Literal["execution", "step", "stage", "frame", "loop", "command", "result", "all"]


class ReplayState(RequestModel):
    """The state as of the end of the log, or as of one of the three; `as_of_event_id` and `as_of_position` are both a
    seq."""

    execution_id: Id
    tenant_id: Literal["default"] = "default"
    organization_id: Literal["default"] = "default"
    as_of_event_id: int | None = Field(default=None, ge=1)
    as_of_position: int | None = Field(default=None, ge=1)
    as_of_time: AwareDatetime | None = None
    projection: Projection = "all"
    limit: int = Field(default=10_000, ge=1, le=100_000, description="So many events are folded at most.")


class Replayed(BaseModel):
    execution_id: str
    event_count: int = Field(description="How many were folded.")
    last_event_id: int
    complete: bool = Field(description="Whether these are all events up to what was asked for, not cut off by `limit`.")
    as_of_time: datetime | None
    upcasters: str = Field(description="SHA-256 of the set of upcasters: another set may fold to another state.")
    surfaces: dict[str, Any] = Field(description="execution: an object; each other surface: rows. Instants are in ms.")
    checksums: dict[str, str] = Field(description="SHA-256 over canonical JSON, of each surface and of the state.")


class Validate(RequestModel):
    execution_id: Id


class DifferenceEntry(BaseModel):
    projection: Literal["execution", "command", "stage", "frame", "result_ref"]
    key: dict[str, Any]
    row: dict[str, Any] | None = Field(description="What is projected, null if no row is.")
    log: dict[str, Any] | None = Field(description="What the log says, null if it knows of no such row.")

    @classmethod
    def of(cls, difference: Difference) -> DifferenceEntry:
        return cls(projection=difference.projection, key=difference.key, row=difference.row, log=difference.log)


class Validated(BaseModel):
    execution_id: str
    valid: bool
    differences: list[DifferenceEntry]


class Rebuild(RequestModel):
    execution_id: Id | None = Field(default=None, description="Only this one; else those behind `after`.")
    after: Id = "0"
    limit: int = Field(default=100, ge=1, le=1000)


class RebuiltEntry(BaseModel):
    execution_id: str
    leases: int = Field(description="How many were lost; their commands are claimed again.")
    differences: list[DifferenceEntry] = Field(description="What was wrong before.")

    @classmethod
    def of(cls, rebuilt: Rebuilt) -> RebuiltEntry:
        found = [DifferenceEntry.of(difference) for difference in rebuilt.differences]
        return cls(execution_id=rebuilt.execution_id, leases=rebuilt.leases, differences=found)


class RebuiltMany(BaseModel):
    executions: list[RebuiltEntry]
    next: str | None = Field(description="The `after` of the next page; null at the end.")


class ResultRow(BaseModel):
    key: str
    ref: str
    step: str | None
    store: str
    bytes: int
    sha256: str
    content_type: str


# status in the table -> status in answers
STATUS = {"pending": "queued", "claimed": "running", "timer": "delayed"}


class CommandRow(BaseModel):
    command_id: str
    status: Literal["queued", "running", "delayed", "dead"] = Field(
        description="queued: no worker has it; running: one has it under a lease; delayed: its time is due_at; "
        "dead: it was given up after too many deliveries."
    )
    worker: str | None
    deliveries: int = Field(description="How often it was given to a worker.")
    lease_until: datetime | None
    due_at: datetime | None
    issued_at: datetime

    @classmethod
    def of(cls, row: dict[str, Any]) -> CommandRow:
        return cls(**{**row, "status": STATUS.get(row["status"], row["status"])})


class ListResults(RequestModel):
    after: str = Field(default="", max_length=1000, description="Only those with a later key.")
    limit: int = Field(default=1000, ge=1, le=5000)


class ListCommands(RequestModel):
    after: str = Field(default="", max_length=1000, description="Only those with a later id.")
    limit: int = Field(default=1000, ge=1, le=5000)


class RecordingEntry(BaseModel):
    """What a replay needs in addition to the log."""

    execution_id: str
    path: str
    version: int
    plan_hash: str
    playbook: str = Field(description="The text of the version that ran.")
    workload: dict[str, Any]
    head: int
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    children: list[str]
    results: list[ResultRow] = Field(
        description=f"What its steps put into the result store, the first {MAX_ROWS} by key."
    )
    commands: list[CommandRow] = Field(description=f"What is out, and who has it, the first {MAX_ROWS} by id.")
    more_results: bool = Field(description="Whether there are more than these; listResults gives them.")
    more_commands: bool = Field(description="Whether there are more than these; listCommands gives them.")

    @classmethod
    def of(cls, recording: Recording) -> RecordingEntry:
        names = ("execution_id", "path", "version", "plan_hash", "playbook", "workload", "head", "status")
        results, commands = results_of(recording), commands_of(recording)
        return cls(
            **{name: getattr(recording, name) for name in names},
            children=recording.children,
            results=results[:MAX_ROWS],
            commands=commands[:MAX_ROWS],
            more_results=len(results) > MAX_ROWS,
            more_commands=len(commands) > MAX_ROWS,
        )


def results_of(recording: Recording, after: str = "") -> list[ResultRow]:
    """The results with a key after `after`, by key."""
    found = [ResultRow(**{name: row[name] for name in ResultRow.model_fields}) for row in recording.results]
    return sorted((row for row in found if row.key > after), key=lambda row: row.key)


def commands_of(recording: Recording, after: str = "") -> list[CommandRow]:
    """The commands with an id after `after`, by id."""
    found = [CommandRow.of(row) for row in recording.commands]
    return sorted((row for row in found if row.command_id > after), key=lambda row: row.command_id)
