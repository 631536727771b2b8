from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ...inspection.limit_text import used_up
from ...protocol import StorableText
from ...store.parity import Difference
from ...store.replays import Rebuilt, RecordedExecution
from . import AnswerModel, Id, Instant, RequestModel
from .runs import LimitUse

# at most this many results and commands are in a recording; listResults and listCommands return the rest
MAX_ROWS = 1000

Projection = Literal["execution", "step", "stage", "frame", "loop", "command", "result", "variable", "all"]


class ReplayState(RequestModel):
    """The state at the end of the log, or at `as_of_event_id`, `as_of_position` or `as_of_time`. The first two are
    seqs."""

    execution_id: Id
    tenant_id: Literal["default"] = "default"
    organization_id: Literal["default"] = "default"
    as_of_event_id: int | None = Field(default=None, ge=1)
    as_of_position: int | None = Field(default=None, ge=1)
    as_of_time: Instant | None = None
    projection: Projection = "all"
    limit: int = Field(default=10_000, ge=1, le=100_000, description="Maximum number of events to fold.")


class Replayed(AnswerModel):
    execution_id: str
    event_count: int = Field(description="Number of events that were folded.")
    last_event_id: int
    complete: bool = Field(
        description="Whether all events up to the requested point were folded; false if `limit` cut them off."
    )
    as_of_time: datetime | None
    upcasters: str = Field(
        description="SHA-256 of the set of upcasters; a different set may produce a different state."
    )
    surfaces: dict[str, Any] = Field(
        description="An object for execution, rows for each other surface. Times are in ms since 1970."
    )
    checksums: dict[str, str] = Field(description="SHA-256 of the canonical JSON of each surface and of the state.")


class Validate(RequestModel):
    execution_id: Id


class DifferenceEntry(AnswerModel):
    projection: Literal["execution", "command", "stage", "frame", "result_ref", "transient"]
    key: dict[str, Any]
    row: dict[str, Any] | None = Field(description="Row in the projection; null if there is none.")
    log: dict[str, Any] | None = Field(description="Row according to the log; null if there is none.")

    @classmethod
    def of(cls, difference: Difference) -> DifferenceEntry:
        return cls(projection=difference.projection, key=difference.key, row=difference.row, log=difference.log)


class Validated(AnswerModel):
    execution_id: str
    valid: bool
    differences: list[DifferenceEntry]


class Rebuild(RequestModel):
    execution_id: Id | None = Field(
        default=None, description="Rebuild only this execution; otherwise those after `after`."
    )
    after: Id = "0"
    limit: int = Field(default=100, ge=1, le=1000)


class RebuiltEntry(AnswerModel):
    execution_id: str
    leases: int = Field(description="Number of leases that were lost; their commands are claimed again.")
    differences: list[DifferenceEntry] = Field(description="Differences between projection and log before the rebuild.")

    @classmethod
    def of(cls, rebuilt: Rebuilt) -> RebuiltEntry:
        found = [DifferenceEntry.of(difference) for difference in rebuilt.differences]
        return cls(execution_id=rebuilt.execution_id, leases=rebuilt.leases, differences=found)


class RebuiltMany(AnswerModel):
    executions: list[RebuiltEntry]
    next: str | None = Field(description="Value of `after` for the next page; null on the last page.")


class ResultRow(AnswerModel):
    key: str
    ref: str
    step: str | None
    store: str
    bytes: int
    sha256: str
    content_type: str


# status in the table -> status in answers
STATUS = {"pending": "queued", "limited": "queued", "claimed": "running", "timer": "delayed"}


class CommandRow(AnswerModel):
    command_id: str
    status: Literal["queued", "running", "delayed", "paused", "dead"] = Field(
        description="queued: it waits for a worker, or for a limit of `limits`; running: a worker has leased it; "
        "delayed: it continues at due_at; paused: its execution is paused, and no worker takes it, nor does its time "
        "come; dead: it failed after too many deliveries."
    )
    worker: str | None
    deliveries: int = Field(description="Number of deliveries to workers.")
    lease_until: datetime | None
    due_at: datetime | None
    issued_at: datetime
    limits: list[LimitUse] | None = Field(default=None, description="Limits that keep it waiting.")

    @classmethod
    def of(cls, row: dict[str, Any]) -> CommandRow:
        limits = None if row.get("limits") is None else used_up(row["limits"])
        return cls(**{**row, "status": STATUS.get(row["status"], row["status"]), "limits": limits})


class ListResults(RequestModel):
    after: StorableText = Field(default="", max_length=1000, description="List only results with a later key.")
    limit: int = Field(default=1000, ge=1, le=5000)


class ListCommands(RequestModel):
    after: StorableText = Field(default="", max_length=1000, description="List only commands with a later id.")
    limit: int = Field(default=1000, ge=1, le=5000)


class RecordingEntry(AnswerModel):
    """What a replay needs in addition to the log."""

    execution_id: str
    path: str
    version: int
    plan_hash: str
    playbook: str = Field(description="Text of the playbook version that ran.")
    workload: dict[str, Any]
    head: int
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    children: list[str]
    results: list[ResultRow] = Field(description=f"Results in the result store, the first {MAX_ROWS} by key.")
    commands: list[CommandRow] = Field(description=f"Queued, running and delayed commands, the first {MAX_ROWS} by id.")
    more_results: bool = Field(description="Whether there are more results; listResults returns them.")
    more_commands: bool = Field(description="Whether there are more commands; listCommands returns them.")

    @classmethod
    def of(cls, recording: RecordedExecution) -> RecordingEntry:
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


def results_of(recording: RecordedExecution, after: str = "") -> list[ResultRow]:
    """The results with a key after `after`, by key."""
    found = [ResultRow(**{name: row[name] for name in ResultRow.model_fields}) for row in recording.results]
    return sorted((row for row in found if row.key > after), key=lambda row: row.key)


def commands_of(recording: RecordedExecution, after: str = "") -> list[CommandRow]:
    """The commands with an id after `after`, by id."""
    found = [CommandRow.of(row) for row in recording.commands]
    return sorted((row for row in found if row.command_id > after), key=lambda row: row.command_id)
