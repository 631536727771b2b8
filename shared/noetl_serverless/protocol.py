"""What workers and the control plane say to each other: claim, report, heartbeat.

All times are seconds, all instants RFC 3339 in UTC, all 64-bit ids decimal strings.

Messages refuse what they do not know. What is new in a version of the protocol is therefore sent only to those who said
that they know it: a worker names the version it speaks in the header `WIRE`, the control plane answers in that version
and names its own in the same header of the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

WIRE = "noetl-wire"
# 2: `ClaimedCommand.lost`, `ChildRequest.payload_ref`, `ReportRequest.turn`, `Outcome.set_refs`, "ctx_refs" in
#    `ClaimedCommand.scope`, a manifest in pages
VERSION = 2


def _in_63_bits(text: str) -> str:
    if int(text) >= 1 << 63:
        raise ValueError("an id has 63 bits")
    return text


ExecutionId = Annotated[str, Field(pattern=r"^[0-9]{1,19}$"), AfterValidator(_in_63_bits)]
# no NUL: the database could not compare it
CommandId = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
Index = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
WorkerId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Pool = Annotated[str, Field(pattern=r"^[^\x00]*$")]

# of a playbook's path and of a step's name, as a playbook may have them
PATH_LENGTH = 500
STEP_LENGTH = 100

# as the database has them: one that it cannot hold would fail what is asked of it together with others
Int = Annotated[int, Field(ge=0, lt=1 << 31)]
Long = Annotated[int, Field(ge=0, lt=1 << 63)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CommandKey(Message):
    """A command's name: a pointer on the bus holds this and nothing else."""

    execution_id: ExecutionId
    command_id: CommandId


class Fenced(Protocol):
    """A command, its outcome, or its lease: whatever names the hold that a worker has."""

    @property
    def execution_id(self) -> str: ...

    @property
    def command_id(self) -> str: ...

    @property
    def fence(self) -> int: ...


class Held(CommandKey):
    fence: Long

    @classmethod
    def of(cls, named: Fenced) -> Held:
        return cls(execution_id=named.execution_id, command_id=named.command_id, fence=named.fence)


class Frame(Message):
    """A run of loop items, `start` inclusive, `end` exclusive, `concurrency` of them at a time."""

    index: Int
    start: Int
    end: Int
    concurrency: Int = 1


class Ahead(Message):
    """With this a worker decides by itself what follows from a command, before its outcome is durable."""

    # the last seq of the log, and the state after it
    head: Int
    state: dict[str, Any]
    # all of it: arcs may ask for what the command does not
    workload: dict[str, Any]


class Order(CommandKey):
    """A command, and the SHA-256 of the payload that it was issued with."""

    order: str


class ClaimedCommand(CommandKey):
    """All a worker needs to run one command, once the plan is known."""

    step: str
    generation: Int
    # step: run the tasks; open: render the loop's collection and store it; frame: run the tasks for a run of items
    kind: Literal["step", "open", "frame"]
    attempt: Int
    delivery: Int
    fence: Long
    lease_until: str
    plan: str
    path: str
    workload: dict[str, Any]
    # {"ctx": {...}, "ctx_refs"?: {name: reference}, "steps": {name: {"status", "data" | "ref", "error"?}}}
    scope: dict[str, Any]
    frame: Frame | None = None
    # the frame's slice, when the collection is inline
    items: list[Any] | None = None
    # the whole collection, when it is by reference (a ResultRef)
    collection: dict[str, Any] | None = None
    count: Int | None = None
    # where a parked or deferred pipeline goes on: what the worker gave as Outcome.resume, and for a child its end as
    # "child": {"status", "data" | "ref", "error"?, "execution_id"}
    resume: dict[str, Any] | None = None
    # of a pipelined execution's step: as in `Order`. If the report named it in `running` with the same order, the
    # command brings its lease alone, `workload` and `scope` are empty
    order: str | None = None
    # of a pipelined execution, if nothing else of it is under way: the worker may run ahead
    ahead: Ahead | None = None
    # who had it to no end: [{worker, delivery, claimed_at, lease_until, given_back_at?}], instants in ms since 1970
    lost: list[dict[str, Any]] | None = None


class ClaimRequest(Message):
    worker_id: WorkerId
    pool: Pool = "shared"
    # those that the bus pointed to; empty: any that are pending
    commands: list[CommandKey] = Field(default_factory=list, max_length=1000)
    limit: int = Field(default=16, ge=0, le=1000)
    lease: float = Field(default=30.0, gt=0, le=3600)
    # plans this worker has compiled, so that the answer need not carry them
    plans: list[str] = Field(default_factory=list, max_length=1000)
    # after an answer that got lost: give me again what I hold, except these
    recover: bool = False
    holding: list[CommandKey] = Field(default_factory=list, max_length=1000)


class ClaimResponse(Message):
    commands: list[ClaimedCommand]
    # plan hash -> playbook text, for the plans the worker does not know
    plans: dict[str, str] = Field(default_factory=dict)


class FrameOutcome(Message):
    """What became of the items `start` to `end`; `end` before the frame's end hands the rest back."""

    start: Int
    end: Int
    ok: Int
    failed: Int
    # item index -> error, the first few
    errors: dict[Index, dict[str, Any]] = Field(default_factory=dict)
    # mean wall time of one item
    item_ms: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    # of the items' results, when they are by reference: see engine.digest.items_digest; hexadecimal
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class ChildRequest(Message):
    """A sub-playbook to start; the command is parked until it ends."""

    path: str = Field(max_length=PATH_LENGTH)
    version: Int | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    # in place of a large `payload`: a reference to it, into the execution's own results
    payload_ref: dict[str, Any] | None = None
    return_step: str | None = Field(default=None, max_length=STEP_LENGTH)


class Outcome(CommandKey):
    """What became of one command.

    done/error: it ended. deferred: run it again after `delay`, from `resume`. parked: start `child` and go on from
    `resume` when it ends. released: this worker did not run it, or not to its end; the log does not hear of it.
    For a frame `data` is the list of the item results in order (or `ref` to it); for an open the collection.
    """

    fence: Long
    status: Literal["done", "error", "deferred", "parked", "released"]
    data: Any = None
    ref: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    # further parts of the envelope that arcs may ask for: http, pg, py
    extra: dict[str, Any] = Field(default_factory=dict)
    # ctx keys set by task rules
    set: dict[str, Any] = Field(default_factory=dict)
    # of those whose value is in the result store: the references, as `ref`
    set_refs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    # attempt, started_at, duration_ms, ...
    meta: dict[str, Any] = Field(default_factory=dict)
    frame: FrameOutcome | None = None
    # for an open: how many items
    count: Int | None = None
    delay: float | None = Field(default=None, allow_inf_nan=False)
    resume: dict[str, Any] | None = None
    child: ChildRequest | None = None
    # when it ended by the worker's clock, in ms since 1970; without it, when it is taken in
    at: int | None = None
    # of a command that was run ahead: what it was issued with as the worker decided, as in `Order`. It stands behind
    # the outcomes it follows from, and bears the fence of the first of them
    order: str | None = None


class ReportRequest(Message):
    worker_id: WorkerId
    pool: Pool = "shared"
    outcomes: list[Outcome] = Field(max_length=1000)
    # how many more commands this worker could take at once
    capacity: int = Field(default=0, ge=0, le=1000)
    # one of them is for whoever's turn it is among all that waits, with what follows
    turn: bool = False
    lease: float = Field(default=30.0, gt=0, le=3600)
    plans: list[str] = Field(default_factory=list, max_length=1000)
    # what the worker runs ahead of this report: to be claimed for it if it is what follows
    running: list[Order] = Field(default_factory=list, max_length=1000)


class ReportResult(CommandKey):
    # stale: the fence is not the current one, the outcome was refused; refused: see detail
    status: Literal["accepted", "stale", "refused"]
    detail: str | None = None


class ReportResponse(Message):
    results: list[ReportResult]
    # what follows, already claimed for this worker
    commands: list[ClaimedCommand]
    plans: dict[str, str] = Field(default_factory=dict)


class HeartbeatRequest(Message):
    worker_id: WorkerId
    commands: list[Held] = Field(max_length=1000)
    lease: float = Field(default=30.0, gt=0, le=3600)


class HeartbeatResponse(Message):
    # no longer this worker's: stop them, their outcome would be refused
    lost: list[CommandKey]
