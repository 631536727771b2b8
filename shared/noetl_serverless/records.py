"""What the event store takes and gives: executions as they are loaded, commits, leases, and what waits."""

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
    """An execution as loaded: who it is, how it stands, and how far its log has come."""

    execution_id: str
    catalog_id: str
    path: str
    version: int
    plan_hash: str
    parent: dict[str, Any] | None
    depth: int
    # the last seq of the log, and that of the state as it is stored
    head: int
    snapshot: int
    state: State
    # who or what started it
    principal: dict[str, Any] | None = None
    # why its state could not be made of what is stored: `state` then says no more than who it is
    read_error: Exception | None = None

    @property
    def is_from_newer_release(self) -> bool:
        """Whether a newer release has written what this one cannot read: it is left to that one."""
        return isinstance(self.read_error, NewerSchema)

    def advanced(self, state: State, head: int, snapshot: int) -> LoadedExecution:
        """The same execution, further on."""
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
    """The first facts that have no place in the log yet, each with its number in the inbox; `more`: whether others wait
    behind them."""

    facts: list[tuple[int, Event]]
    more: bool = False


@dataclass(kw_only=True, frozen=True, slots=True)
class QuarantinedExecution:
    """An execution that could not be decided; `facts` as in `ExecutionCommit.quarantine`, none of them in a list."""

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
    """What one execution's commit writes. `expect` is the head it was decided on; None opens the execution."""

    execution: LoadedExecution
    events: list[Event]
    expected_head: int | None
    new_row: dict[str, Any] | None = None
    closes: list[tuple[str, int]] = field(default_factory=list)
    # who must hold what it closes; None for a timer
    worker: str | None = None
    refs: list[dict[str, Any]] = field(default_factory=list)
    # facts that were taken from the inbox
    consumed: list[int] = field(default_factory=list)
    # facts for other executions: {id, type, step, generation, at, payload}
    inbox_facts: list[dict[str, Any]] = field(default_factory=list)
    # when the execution came to its end, in ms
    ended_at_ms: int | None = None
    # step -> the pool that runs it
    pool_of: Callable[[str], str] | None = None
    weight: int = WEIGHT
    # into quarantine: {seq, at, error, facts}, to which the inbox is added; out of it, back into the inbox: {}
    quarantine: dict[str, Any] | None = None
    # rows of commands that are to be out again, beside those that its events issue
    reissued: list[dict[str, Any]] = field(default_factory=list)

    @property
    def writes_snapshot(self) -> bool:
        """Whether the state is written with it."""
        return self.execution.snapshot == self.execution.head


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that is to hold what a commit issues, `room` commands at most; `lease` in seconds. With `turn`, one
    more is for whoever's turn it is once that is committed."""

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


@dataclass(kw_only=True, frozen=True, slots=True)
class Lease:
    """A claimed command; `lease_until` is RFC 3339, `seq` that of the event it was issued by."""

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
    # the leases that ran out before: [{worker, delivery, claimed_at, lease_until}], instants in ms
    lost: list[dict[str, Any]] | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class ReportedFact:
    """A command's end, to be appended without its decision."""

    execution_id: str
    event: Event
    fence: int
    worker: str
    refs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class IdempotentStart:
    """What an idempotency key has started, the hash of the request, and who sent it, if that is known."""

    execution_id: str
    version: int
    request_hash: str | None
    principal: dict[str, Any] | None


@dataclass(kw_only=True, frozen=True, slots=True)
class DeadLetter:
    """A command that was delivered too often and never came back."""

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


class UnstorableCommit(Exception):
    """What is to be committed holds something that cannot be stored: it will not be better the next time."""
