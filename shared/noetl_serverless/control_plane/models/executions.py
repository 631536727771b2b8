from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SkipValidation,
    field_validator,
    model_validator,
)

from ...protocol import StorableText
from ...store.executions import COMPLETED, Execution, ResultRange
from ...store.recorded import RecordedEvent
from . import AnswerModel, Id, Instant, PathPrefix, PlaybookPath, RequestModel, VersionOrLatest
from .runs import UnderWay

# executions that one request starts
MAX_BATCH = 100
# in a search: the status is RUNNING, and `paused_since` is set
PAUSED = "PAUSED"


ResourceKind = Annotated[
    Literal["playbook", "agent"],
    BeforeValidator(lambda kind: kind.lower() if isinstance(kind, str) else kind),
    Field(
        description="What is to be started, in any case of letters: any playbook, or only an agent, which is of kind "
        "Agent or says `metadata.agent: true`."
    ),
]


class Execute(RequestModel):
    path: PlaybookPath | None = None
    catalog_id: Id | None = None
    version: VersionOrLatest = "latest"
    resource_kind: ResourceKind = "playbook"
    payload: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("payload", "workload"),
        description="Values merged into the playbook's workload; those under `ctx` are merged into the initial ctx.",
    )
    parent_execution_id: Id | None = Field(
        default=None,
        description="Execution that this one is started for. It is recorded as its `origin`; only a step of kind "
        "playbook starts a sub-playbook, which is cancelled with its parent and listed under it.",
    )


class ExecuteBatch(RootModel[list[SkipValidation[Execute]]]):
    """Each entry is checked by itself."""

    model_config = ConfigDict(defer_build=True)

    root: list[SkipValidation[Execute]] = Field(min_length=1, max_length=MAX_BATCH)


class ExecuteQuery(RequestModel):
    wait: float = Field(default=0.0, ge=0, le=60, description="Seconds to wait for the end of the execution.")


class Started(AnswerModel):
    execution_id: str
    status: Literal["started", "COMPLETED", "FAILED", "CANCELLED"] = Field(
        default="started", description="How the execution has ended, if it has ended while the request waited."
    )
    commands_generated: int
    result: Any = Field(
        default=None, description='After its end: {"data": ...} for an inline result, {"ref": ...} for a stored one.'
    )
    error: Any = None


class StartedEntry(AnswerModel):
    index: int = Field(description="Place of the entry in the request.")
    status: Literal["started", "failed"]
    execution_id: str | None = None
    commands_generated: int = 0
    error: dict[str, Any] | None = Field(default=None, description="Problem details, of an entry that started nothing.")


class StartedBatch(RootModel[list[StartedEntry]]):
    """In the order of the request."""

    model_config = ConfigDict(defer_build=True)


class ListExecutions(RequestModel):
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=100, ge=1, le=1000)
    before: Id | None = Field(default=None, description="List only executions older than this one.")
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PAUSED"] | None = Field(
        default=None, description="In any case of letters. PAUSED: those that are running, and paused."
    )
    path: PathPrefix | None = None
    parent_execution_id: Id | None = None
    since: Instant | None = Field(default=None, description="List only executions that started at this time or later.")
    until: Instant | None = Field(default=None, description="List only executions that started before this time.")
    principal: StorableText | None = Field(
        default=None,
        max_length=300,
        description="List only executions that a principal of this name started; archived ones have no principal.",
    )
    principal_kind: StorableText | None = Field(
        default=None,
        max_length=100,
        description="Kind of the principal: user, schedule, and so on. Requires `principal`.",
    )

    @field_validator("status", mode="before")
    @classmethod
    def _in_capitals(cls, status: object) -> object:
        return status.upper() if isinstance(status, str) else status

    @model_validator(mode="after")
    def _check_principal_kind(self) -> Self:
        if self.principal_kind is not None and self.principal is None:
            raise ValueError("principal_kind requires principal")
        return self

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("until must be later than since")
        return self


class ExecutionEntry(AnswerModel):
    execution_id: str
    catalog_id: str | None
    path: str
    version: int | None
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    start_time: datetime
    end_time: datetime | None
    duration_seconds: float | None
    duration_human: str | None
    progress: int = Field(description="Percentage of the steps that have an outcome, 0 to 100.")
    result: Any = Field(description='{"data": ...} for an inline result, {"ref": ...} for a reference to a stored one.')
    error: Any
    parent_execution_id: str | None
    restarted_from: str | None = Field(description="Execution that it goes on with.")
    principal: dict[str, Any] | None = Field(
        description='Principal that started it, {"kind": ..., "name": ...}; sub-playbooks inherit it.'
    )
    paused_since: datetime | None = Field(description="Time at which it was paused, if it is.")
    archived: bool = Field(description="Whether it is archived; lists then omit its result, error and principal.")

    @classmethod
    def of(cls, execution: Execution, now: datetime) -> ExecutionEntry:
        return cls(**entry_fields(execution, now))


def entry_fields(execution: Execution, now: datetime) -> dict[str, Any]:
    seconds = duration(execution.created_at, execution.ended_at, now)
    parent, catalog = execution.parent_execution_id, execution.catalog_id
    return {
        "execution_id": str(execution.execution_id),
        "catalog_id": None if catalog is None else str(catalog),
        "path": execution.path,
        "version": execution.version,
        "status": execution.status,
        "start_time": execution.created_at,
        "end_time": execution.ended_at,
        "duration_seconds": seconds,
        "duration_human": human(seconds),
        "progress": progress(execution),
        "result": execution.result,
        "error": execution.error,
        "parent_execution_id": None if parent is None else str(parent),
        "restarted_from": None if execution.restart_of is None else str(execution.restart_of),
        "principal": execution.principal,
        "paused_since": execution.paused_at if execution.status == "RUNNING" else None,
        "archived": execution.archived,
    }


def duration(start: datetime, end: datetime | None, now: datetime) -> float:
    return max(0.0, round(((end or now) - start).total_seconds(), 3))


def human(seconds: float) -> str:
    """2h 3m 4s; below a minute with tenths."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")) if count]
    return " ".join(parts)


def progress(execution: Execution) -> int:
    if execution.status == COMPLETED:
        return 100
    return min(99, 100 * execution.finished // execution.steps) if execution.steps else 0


class EventEntry(AnswerModel):
    """`node_id` and `node_name` repeat `step`, `event_id` repeats `seq`, `parent_event_id` repeats `cause` and
    `created_at` repeats `timestamp`, for clients of the original NoETL; `payload` has what it calls context, result and
    error."""

    execution_id: str
    seq: int
    event_id: str
    cause: int | None
    parent_event_id: str | None
    event_type: str
    step: str | None
    node_id: str | None
    node_name: str | None
    generation: int | None
    command_id: str | None
    timestamp: datetime
    created_at: datetime
    status: str | None = Field(description="Outcome that the event reports: ok, error or skipped.")
    duration: float | None = Field(description="Time that the reported command ran, in seconds.")
    payload: dict[str, Any] = Field(description="Payload; empty if it is left out, see payload_bytes.")
    payload_bytes: int | None = Field(
        description="Size of a payload that is too large for this response; getEventPayload returns it."
    )

    @classmethod
    def of(cls, event: RecordedEvent) -> EventEntry:
        return cls(
            execution_id=str(event.execution_id),
            seq=event.seq,
            event_id=str(event.seq),
            cause=event.cause,
            parent_event_id=None if event.cause is None else str(event.cause),
            event_type=event.type,
            step=event.step,
            node_id=event.step,
            node_name=event.step,
            generation=event.generation,
            command_id=event.command_id,
            timestamp=event.at,
            created_at=event.at,
            status=_outcome(event),
            duration=_seconds(event),
            payload=event.payload,
            payload_bytes=event.payload_bytes,
        )

    def without_payload(self) -> EventEntry:
        """Without its payload."""
        size = len(orjson.dumps(self.payload)) if self.payload_bytes is None else self.payload_bytes
        return self.model_copy(update={"payload": {}, "payload_bytes": size})


# what an event reports, of those whose payload does not say
OUTCOMES = {"call.done": "ok", "call.error": "error", "step.skipped": "skipped", "step.timed_out": "error"}


def _outcome(event: RecordedEvent) -> str | None:
    stated = event.payload.get("status")
    return stated if isinstance(stated, str) else OUTCOMES.get(event.type)


def _seconds(event: RecordedEvent) -> float | None:
    meta = event.payload.get("meta")
    ms = meta.get("duration_ms") if isinstance(meta, dict) else None
    return round(ms / 1000, 6) if isinstance(ms, int | float) else None


class GetExecution(RequestModel):
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=100, ge=1, le=500)
    since_event_id: int = Field(default=0, ge=0)
    event_type: StorableText | None = None
    include_events: bool = True


class ExecutionWarning(AnswerModel):
    """A warning that an execution ended with."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    step: str | None = None


class Pagination(AnswerModel):
    page: int
    page_size: int
    total: int
    total_pages: int
    has_next: bool
    has_prev: bool


class Origin(AnswerModel):
    """Executions that an execution comes from, as recorded when it was started."""

    parent_execution_id: str | None = Field(default=None, description="As given to `POST /api/execute`.")
    rerun_of: str | None = Field(default=None, description="Execution that it repeats.")


class ExecutionDetail(ExecutionEntry):
    origin: Origin | None
    warnings: list[ExecutionWarning] = Field(description="Warnings about a completed execution.")
    quarantined: bool = Field(description="Whether it is in quarantine: the engine could not continue it.")
    restarts: list[str] = Field(description="Executions that go on with this one, oldest first.")
    events: list[EventEntry] = Field(description="Latest events, newest first.")
    events_included: bool
    events_endpoint: str
    pagination: Pagination | None


class GetStatus(RequestModel):
    full: bool = Field(
        default=False,
        description="Show also the values of ctx that are stored by reference, as far as they fit into the response.",
    )


class ExecutionStatus(AnswerModel):
    execution_id: str
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    current_step: str | None
    current_steps: list[str]
    under_way: list[UnderWay] = Field(description="Runs of steps that have not ended, and what they wait for.")
    kept_signals: list[str] = Field(
        description="Names of signals that came and that no wait has taken, in their order; the first few."
    )
    completed_steps: list[str]
    failed: bool
    completed: bool = Field(
        description="Whether it has ended otherwise than by failing; also true if it was cancelled, as in the original "
        "NoETL, whose clients look at nothing else."
    )
    cancelled: bool
    completion_inferred: Literal[False] = False
    variables: dict[str, Any] = Field(
        description="Values of ctx, under the name that the original gives them; one that is stored by reference is "
        "shown as the reference, unless `full` is set. The variables of the execution are at /api/vars/{execution_id}."
    )
    error: Any
    principal: dict[str, Any] | None
    warnings: list[ExecutionWarning]
    quarantined: bool
    paused_since: datetime | None = Field(description="Time at which it was paused, if it is.")
    start_time: datetime
    end_time: datetime | None
    duration_seconds: float
    duration_human: str


class ListEvents(RequestModel):
    after: int = Field(default=0, ge=0, description="List only events with a higher seq.")
    wait: float = Field(default=0.0, ge=0, le=60, description="Seconds to wait for an event while the execution runs.")
    limit: int = Field(default=500, ge=1, le=5000)
    event_type: StorableText | None = None


class Cancel(RequestModel):
    reason: StorableText = Field(default="cancelled on request", max_length=2000)
    cascade: bool = Field(default=True, description="Also cancel the sub-playbooks.")


class Cancelled(AnswerModel):
    status: Literal["cancelled", "already_completed"]
    execution_id: str
    cancelled_executions: list[str]
    message: str


class CancellationCheck(AnswerModel):
    execution_id: str
    cancelled: bool
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    ended: bool = Field(description="Whether it has ended in any way: nothing of it needs to go on.")
    reason: str | None = Field(description="Why it was cancelled.")


class Finalize(RequestModel):
    reason: StorableText = Field(default="finalized on request", max_length=2000)


class Finalized(AnswerModel):
    status: Literal["finalized", "already_completed"]
    execution_id: str
    execution_status: Literal["COMPLETED", "FAILED", "CANCELLED"] = Field(description="How it has ended.")
    finalized_executions: list[str] = Field(description="It and its sub-playbooks that were still running.")
    message: str


class CleanUp(RequestModel):
    older_than_minutes: float = Field(gt=0, le=10 * 366 * 1440, description="Only executions that began before that.")
    dry_run: bool = Field(default=False, description="List them, and cancel none.")
    limit: int = Field(default=100, ge=1, le=100, description="Executions that one request cancels.")


class CleanedUp(AnswerModel):
    cancelled_count: int = Field(description="Number of `execution_ids`; with dry_run, none of them was cancelled.")
    execution_ids: list[str]
    failed: dict[str, str] = Field(description="Those that could not be cancelled, with the reason.")
    more: bool = Field(description="Whether there are more: send the request again.")
    message: str


class Rerun(RequestModel):
    resource_kind: ResourceKind = "playbook"
    payload: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("payload", "workload"),
        description="Values merged into the input of the first run.",
    )


class Restart(RequestModel):
    step: StorableText | None = Field(
        default=None,
        alias="from",
        max_length=500,
        description="Step to restart from; by default the step that failed, or the steps that were under way.",
    )
    version: VersionOrLatest | None = Field(
        default=None, description="Version of the playbook to go on with; by default the version that ran."
    )
    payload: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("payload", "workload"),
        description="Values merged into the workload; those under `ctx` are set in ctx.",
    )
    dry_run: bool = Field(default=False, description="Show what would be reused and what would run, and start nothing.")


class Restarted(AnswerModel):
    execution_id: str | None = Field(description="The new execution; null for a dry run.")
    restarted_from: str
    version: int
    restart_from: list[str] = Field(alias="from", description="Steps that it restarts from.")
    reused: list[str] = Field(description="Steps that stay done: their results are reused.")
    skipped: list[str] = Field(description="Of the steps in `reused`, those that were skipped.")
    failed: list[str] = Field(description="Of the steps in `reused`, those whose failure an arc handled.")
    items_reused: dict[str, int] = Field(
        description="Of loops among the steps that run again: how many items stay done, with their results."
    )
    again: list[str] = Field(description="Steps that had begun and run again, those that it restarts from first.")
    warnings: list[str]
    commands_generated: int


class ManifestPart(AnswerModel):
    start: int
    end: int
    data: list[Any] | None = None
    ref: dict[str, Any] | None = None

    @classmethod
    def of(cls, part: ResultRange) -> ManifestPart:
        return cls(start=part.start, end=part.end, data=part.data, ref=part.ref)


class ManifestQuery(RequestModel):
    after: int = Field(default=0, ge=0, description="Return results from this item on.")


class Manifest(AnswerModel):
    parts: list[ManifestPart]
    next: int | None = Field(description="Value of `after` for the next page; null on the last page.")


class LoopResultsQuery(RequestModel):
    execution_id: Id
    step_name: StorableText
    after: int = Field(default=0, ge=0, description="Return results from this item on.")


class LoopStats(AnswerModel):
    total: int = Field(description="Number of items of the loop.")
    success: int
    failed: int


class Items(AnswerModel):
    """Items of a loop that follow one another."""

    start: int
    end: int = Field(description="The item after the last of them.")


class LoopResults(AnswerModel):
    status: Literal["ok"] = "ok"
    method: Literal["frames"] = "frames"
    results: list[Any] = Field(
        description=(
            "The results of the items from `after` on, each at its place, as `{{ step }}` has them in a template: null "
            "for each that failed, and for each that has not run, or not yet, if one after it has. Of a loop over a "
            "cursor, those of the rows that it has claimed."
        )
    )
    places: list[Items] = Field(
        description=(
            "The items that `results` has the results of, in this order: of a loop over a cursor with gaps, since a "
            "claim may find fewer rows than it has places for."
        )
    )
    stats: LoopStats
    count: int = Field(description="Number of items that have finished.")
    refs: list[ManifestPart] = Field(
        description=(
            "If the next results are too large for a page, or are no longer stored: the reference to them, and no "
            "`results`. Read it with GET /api/results/data/{execution_id}."
        )
    )
    next: int | None = Field(description="Value of `after` for the next page; null on the last page.")
