"""The messages between workers and the control plane: claim, report, heartbeat.

All times are seconds, all instants RFC 3339 in UTC, all 64-bit ids decimal strings.

Messages refuse unknown fields. A field that is new in a protocol version is therefore sent only to a peer that supports
the version: a worker states its version in the header `WIRE`; the control plane answers in that version and states its
own in the same header of the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .limits import LATEST_MS

WIRE = "noetl-wire"
# 2: `ClaimedCommand.lost`, `ChildRequest.payload_ref` and `timeout`, `ReportRequest.turn`, `Outcome.set_refs` and
#    `set_by`, "ctx_refs" in `ClaimedCommand.scope`, "set" in `ClaimedCommand.resume` of a frame, a manifest in pages
# 3: `Outcome.wait`, `ClaimRequest.instance`, `HeartbeatRequest.instance`, `Outcome.parts`
VERSION = 3


def _in_63_bits(text: str) -> str:
    if int(text) >= 1 << 63:
        raise ValueError("an id has 63 bits")
    return text


ExecutionId = Annotated[str, Field(pattern=r"^[0-9]{1,19}$"), AfterValidator(_in_63_bits)]
# what the database can store and compare: no NUL. Halves of surrogate pairs are refused by the reader of JSON
StorableText = Annotated[str, Field(pattern=r"^[^\x00]*$")]
CommandId = Annotated[StorableText, Field(min_length=1, max_length=300)]
Index = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
WorkerId = Annotated[StorableText, Field(min_length=1, max_length=200)]
Pool = StorableText

SignalName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]*$")]

# the maximum lengths of a playbook's path and of a step's name
PATH_LENGTH = 500
STEP_LENGTH = 100

# the database's types: a number beyond them would also fail the rest of the query that it is part of
Int = Annotated[int, Field(ge=0, lt=1 << 31)]
Long = Annotated[int, Field(ge=0, lt=1 << 63)]


class Message(BaseModel):
    # a cold start builds the messages that it needs, not all
    model_config = ConfigDict(extra="forbid", defer_build=True)


class CommandKey(Message):
    """Identifies a command; a pointer on the bus holds this and nothing else."""

    execution_id: ExecutionId
    command_id: CommandId


class Fenced(Protocol):
    """A command, its outcome, or its lease: anything that identifies a worker's lease."""

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
    """Lets a worker decide what follows from a command before the command's outcome is durable."""

    # the last seq of the log, and the state after it
    head: Int
    state: dict[str, Any]
    # all of it: arcs may read what the command does not
    workload: dict[str, Any]


class Order(CommandKey):
    """A command, and the SHA-256 of the payload that it was issued with."""

    order: StorableText


class ClaimedCommand(CommandKey):
    """All that a worker needs, apart from the plan, to run one command."""

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
    # where a parked or deferred pipeline continues: the worker's Outcome.resume, and for a child its end as
    # "child": {"status", "data" | "ref", "error"?, "execution_id"}
    resume: dict[str, Any] | None = None
    # for a step of a pipelined execution: as in `Order`. If the report listed the command in `running` with the same
    # order, only its lease is sent: `workload` and `scope` are empty
    order: str | None = None
    # for a pipelined execution with nothing else under way: the worker may run speculatively
    ahead: Ahead | None = None
    # earlier leases that ended without a report: [{worker, delivery, claimed_at, lease_until, given_back_at?}],
    # instants in ms since 1970
    lost: list[dict[str, Any]] | None = None


# what the original registers, and what else there is here
Kind = Literal["worker_pool", "server_api", "broker", "scheduler", "monitor", "gateway"]
Text = Annotated[StorableText, Field(max_length=500)]


class Instance(Message):
    """What an instance of a function says of itself, which counts as a heartbeat. ready: it waits for work, or serves
    requests; busy: it runs commands; idle: it may be frozen, until it is invoked; ended: it is gone for good."""

    kind: Kind
    name: WorkerId
    status: Literal["ready", "busy", "idle", "ended"]
    # whose commands it runs, of a worker
    pool: Text | None = None
    runtime: Text | None = "python"
    uri: Text | None = None
    # commands that it runs at once, and how many it runs now
    capacity: Int | None = None
    running: Int | None = None
    labels: dict[str, Any] | list[StorableText] | None = None
    # of the engine
    version: Text | None = None
    pid: Long | None = None
    hostname: Text | None = None
    meta: dict[str, Any] | None = None


class ClaimRequest(Message):
    worker_id: WorkerId
    pool: Pool = "shared"
    # the commands that the bus pointed to; if empty, any that are pending
    commands: list[CommandKey] = Field(default_factory=list, max_length=1000)
    limit: int = Field(default=16, ge=0, le=1000)
    lease: float = Field(default=30.0, gt=0, le=3600)
    # plans this worker has compiled, so that the answer need not carry them
    plans: list[StorableText] = Field(default_factory=list, max_length=1000)
    # after a lost answer: send again the commands that the worker holds, except `holding`
    recover: bool = False
    holding: list[CommandKey] = Field(default_factory=list, max_length=1000)
    # now and then, for the registry
    instance: Instance | None = None


class ClaimResponse(Message):
    commands: list[ClaimedCommand]
    # plan hash -> playbook text, for the plans the worker does not know
    plans: dict[str, str] = Field(default_factory=dict)


class FrameOutcome(Message):
    """The outcome of the items `start` to `end`; an `end` before the frame's end returns the remaining items."""

    start: Int
    end: Int
    ok: Int
    failed: Int
    # item index -> error, the first few
    errors: dict[Index, dict[str, Any]] = Field(default_factory=dict)
    # mean wall time of one item
    item_ms: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    # there was nothing left to claim
    drained: bool = False
    # of the items' results, when they are by reference, in hexadecimal: see engine.digest.items_digest
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class ChildRequest(Message):
    """A sub-playbook to start; the command is parked until it ends."""

    path: StorableText = Field(max_length=PATH_LENGTH)
    version: Int | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    # in place of a large `payload`: a reference to it, into the execution's own results
    payload_ref: dict[str, Any] | None = None
    return_step: StorableText | None = Field(default=None, max_length=STEP_LENGTH)
    # seconds; the child fails when it has not ended by then
    timeout: float | None = None


class WaitRequest(Message):
    """What a command waits for, parked: until `due` (ms since 1970), for `delay` seconds, or for a signal, of which an
    approval is one; `timeout`, in seconds, is that of a signal."""

    due: int | None = Field(default=None, ge=0, le=LATEST_MS)
    delay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    signal: SignalName | None = None
    approval: bool = False
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Outcome(CommandKey):
    """The outcome of one command.

    done/error: it ended. deferred: run it again after `delay`, from `resume`. parked: start `child`, or wait for what
    `wait` says, and continue from `resume` when that ends. released: this worker did not run it, or not to its end;
    the log does not record this.
    For a frame, `data` is the list of item results in order (or `ref` to it); for an open command, the collection.
    """

    fence: Long
    status: Literal["done", "error", "deferred", "parked", "released"]
    data: Any = None
    ref: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    # further parts of the envelope that arcs may read: http, pg, py
    extra: dict[str, Any] = Field(default_factory=dict)
    # ctx keys set by task rules
    set: dict[str, Any] = Field(default_factory=dict)
    # ctx keys whose value is in the result store: the references, as in `ref`
    set_refs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    # for a frame: ctx key -> index of the item that set it, the last of the frame that did. Empty if the items ran in
    # order; None of a worker that does not say
    set_by: dict[str, Int] | None = None
    # attempt, started_at, duration_ms, ...
    meta: dict[str, Any] = Field(default_factory=dict)
    frame: FrameOutcome | None = None
    # for an open command: the number of items
    count: Int | None = None
    delay: float | None = Field(default=None, allow_inf_nan=False)
    resume: dict[str, Any] | None = None
    # references to what was stored and belongs to the result, or will: the parts of what a task accumulates
    parts: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    child: ChildRequest | None = None
    wait: WaitRequest | None = None
    # when it ended by the worker's clock, in ms since 1970; if missing, when it is processed
    at: int | None = None
    # for a speculative run: the digest of what the worker's own decision issued the command with, as in `Order`. The
    # outcome comes after those it follows from, and has the fence of the first of them
    order: StorableText | None = None


class ReportRequest(Message):
    worker_id: WorkerId
    pool: Pool = "shared"
    outcomes: list[Outcome] = Field(max_length=1000)
    # how many more commands this worker could take at once
    capacity: int = Field(default=0, ge=0, le=1000)
    # one of them is claimed by fair claim among all pending commands, in addition to what follows
    turn: bool = False
    lease: float = Field(default=30.0, gt=0, le=3600)
    plans: list[StorableText] = Field(default_factory=list, max_length=1000)
    # the commands that the worker runs speculatively: each is claimed for it if it does follow
    running: list[Order] = Field(default_factory=list, max_length=1000)


class ReportResult(CommandKey):
    # stale: the fence is not the latest one, so the outcome was discarded; refused: see `detail`
    status: Literal["accepted", "stale", "refused"]
    detail: str | None = None


class ReportResponse(Message):
    results: list[ReportResult]
    # the commands that follow, already claimed for this worker
    commands: list[ClaimedCommand]
    plans: dict[str, str] = Field(default_factory=dict)


class HeartbeatRequest(Message):
    worker_id: WorkerId
    commands: list[Held] = Field(max_length=1000)
    lease: float = Field(default=30.0, gt=0, le=3600)
    # as in ClaimRequest; without any commands, it is all that the message is for
    instance: Instance | None = None


class HeartbeatResponse(Message):
    # no longer leased to this worker: stop them, their outcomes would be refused
    lost: list[CommandKey]


class SecretRequest(CommandKey):
    """A fetched secret that a command needs: an entry of its playbook's keychain."""

    name: StorableText = Field(min_length=1, max_length=100)
    # what it is fetched from: see worker.execution.keychain.digest_of
    inputs: str = Field(pattern=r"^[0-9a-f]{64}$")


class SecretAnswer(Message):
    """`data`: the fields, if they are known; `fetch`: the worker is to fetch them, and to say how that ended; neither:
    another worker fetches them, ask again."""

    data: dict[str, Any] | None = Field(default=None, repr=False)
    seconds_left: float = 0.0
    fetch: str | None = None


class FetchedSecret(SecretRequest):
    """How a fetch ended. `data`: the fields; None if it failed."""

    fetch: StorableText = Field(min_length=1, max_length=100)
    data: dict[str, Any] | None = Field(default=None, repr=False)
    # seconds that it is valid
    ttl: float = Field(default=0.0, ge=0, le=31 * 86_400)


class SecretStored(Message):
    stored: bool


class CallbackRequest(CommandKey):
    """A callback URL that a command needs: an entry of its playbook's keychain, of kind callback."""

    name: StorableText = Field(min_length=1, max_length=100)


class CallbackUrl(Message):
    """The fields of the entry."""

    url: str = Field(repr=False)
    # the last part of the URL
    token: str = Field(repr=False)
    expires_at: str
