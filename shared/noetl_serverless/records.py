"""What the event store takes and returns: loaded executions, commits, leases, and pending work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Any

from .engine.events import Event
from .engine.state import State
from .engine.upcast import NewerSchema
from .limits import WEIGHT
from .protocol import CommandKey

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(kw_only=True, frozen=True, slots=True)
class LoadedExecution:
    """An execution as loaded: its identity, its state, and the head of its log."""

    execution_id: str
    catalog_id: str
    path: str
    version: int
    plan_hash: str
    parent: dict[str, Any] | None
    depth: int
    # the last seq of the log, and that of the stored snapshot
    head: int
    snapshot: int
    state: State
    # who or what started it
    principal: dict[str, Any] | None = None
    # why the stored state could not be read; `state` then holds only the execution's identity
    read_error: Exception | None = None

    @property
    def is_from_newer_release(self) -> bool:
        """Whether a newer release wrote something that this one cannot read; the execution is left to that release."""
        return isinstance(self.read_error, NewerSchema)

    def advanced(self, state: State, head: int, snapshot: int) -> LoadedExecution:
        """The same execution with a later state."""
        return LoadedExecution(
            execution_id=self.execution_id,
            catalog_id=self.catalog_id,
            path=self.path,
            version=self.version,
            plan_hash=self.plan_hash,
            parent=self.parent,
            depth=self.depth,
            head=head,
            snapshot=snapshot,
            state=state,
            principal=self.principal,
            read_error=self.read_error,
        )


@dataclass(frozen=True, slots=True)
class Inbox:
    """The first facts that are not in the log yet, each with its number in the inbox; `more`: whether others follow
    them."""

    facts: list[tuple[int, Event]]
    more: bool = False


@dataclass(kw_only=True, frozen=True, slots=True)
class QuarantinedExecution:
    """An execution that could not be decided; `facts` as in `ExecutionCommit.quarantine`, left empty in lists."""

    execution_id: str
    path: str
    version: int
    seq: int
    at: datetime
    error: dict[str, Any]
    fact_count: int
    facts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class ExecutionCommit:
    """What one execution's commit writes. `expected_head` is the head it was decided on; None opens the execution."""

    execution: LoadedExecution
    events: list[Event]
    expected_head: int | None
    new_row: dict[str, Any] | None = None
    closes: list[tuple[str, int]] = field(default_factory=list)
    # the worker that must hold what `closes` names; None for a timer
    worker: str | None = None
    refs: list[dict[str, Any]] = field(default_factory=list)
    # the numbers of the facts that were taken from the inbox
    consumed: list[int] = field(default_factory=list)
    # facts for other executions: {id, type, step, generation, at, payload}
    inbox_facts: list[dict[str, Any]] = field(default_factory=list)
    # when the execution ended, in ms
    ended_at_ms: int | None = None
    # step -> the pool that runs it
    pool_of: Callable[[str], str] | None = None
    weight: int = WEIGHT
    # to enter quarantine: {seq, at, error, facts}, to which the inbox is added; to leave it, with the facts put back
    # into the inbox: {}
    quarantine: dict[str, Any] | None = None
    # commands and timers of steps that have ended before them: their rows go, whoever holds them
    drops: list[str] = field(default_factory=list)
    # {at, timers}: it is paused at an instant, or goes on if this is null; both in ms
    pause: dict[str, Any] | None = None
    # what has changed of the variables: {"set": rows, "gone": names}
    variables: dict[str, Any] | None = None
    # rows of commands that are written again, in addition to those that its events issue
    reissued: list[dict[str, Any]] = field(default_factory=list)
    # whether others may begin when it is written, since what it closes or ends is limited
    frees: bool = False

    @property
    def writes_snapshot(self) -> bool:
        """Whether the commit writes the state."""
        return self.execution.snapshot == self.execution.head


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker to which the commands that a commit issues are leased, at most `limit`. With `fair_claim`, one more is
    claimed fairly among all pending commands after the commit."""

    worker: str
    pool: str
    lease_seconds: float
    limit: int
    _: KW_ONLY
    fair_claim: bool = False


@dataclass(frozen=True, slots=True)
class CommitResult:
    committed: frozenset[str]
    leases: list[Lease]
    # commands that wait for a worker: (pool, key)
    pending: list[tuple[str, CommandKey]]
    # executions that have a new fact in their inbox
    with_new_facts: list[str]
    # limited commands that may begin now, of this commit or others: (pool, key). Among them those that wait longest
    startable: list[tuple[str, CommandKey]] = field(default_factory=list)
    # seconds until a rate lets the next one begin, if any waits for it
    next_start: float | None = None


@dataclass(frozen=True, slots=True)
class RelatedRestart:
    """An execution that goes on with the same as another one, or that with which all of them go on."""

    execution_id: str
    # None if it is gone
    version: int | None
    status: str | None
    # whether it runs, or is in quarantine, where it may be retried
    is_open: bool
    # whether it has begun to undo what was done; None if that is not known any more
    has_undone: bool | None
    # the steps that it undoes if it fails, or has undone, of those that it has taken over; None if that is not known
    undoes: list[str] | None

    @property
    def may_have_undone(self) -> bool:
        """Whether it is archived, and it is not known what it has undone."""
        return self.status is not None and self.has_undone is None


@dataclass(kw_only=True, frozen=True, slots=True)
class Lease:
    """A claimed command; `lease_until` is RFC 3339, `seq` that of the event that issued it."""

    execution_id: str
    command_id: str
    fence: int
    lease_until: str
    delivery: int
    seq: int
    step: str
    generation: int
    # the payload of that event, and for a frame that of its loop's opening, unless the caller has it already
    issued: dict[str, Any] | None = None
    loop_opened: dict[str, Any] | None = None
    # earlier leases that ended without a report: [{worker, delivery, claimed_at, lease_until}], instants in ms
    lost: list[dict[str, Any]] | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class ReportedFact:
    """A worker's report of a command, to be appended without a decision."""

    execution_id: str
    event: Event
    fence: int
    worker: str
    refs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class IdempotentStart:
    """The execution that an idempotency key started, the hash of the request, and who sent it, if known."""

    execution_id: str
    version: int
    request_hash: str | None
    principal: dict[str, Any] | None


@dataclass(kw_only=True, frozen=True, slots=True)
class DeadLetter:
    """A command that was delivered too often and never reported."""

    execution_id: str
    command_id: str
    fence: int
    worker: str | None
    deliveries: int
    step: str
    generation: int
    kind: str
    seq: int


@dataclass(kw_only=True, frozen=True, slots=True)
class DueTimer:
    execution_id: str
    name: str
    step: str
    generation: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class PendingWork:
    has_expired_leases: bool
    has_pending_commands: bool
    has_due_timers: bool
    has_inboxes: bool
    has_due_schedules: bool
    maintenance: bool
    has_trigger_events: bool = False
    has_trigger_sources: bool = False
    has_limited_commands: bool = False


@dataclass(frozen=True, slots=True)
class Startable:
    """Limited commands that may begin now: (pool, key); and the seconds until a rate lets the next one begin."""

    commands: list[tuple[str, CommandKey]]
    next_start: float | None = None


class UnstorableCommit(Exception):
    """The commit holds something that cannot be stored; a retry would fail the same way."""
