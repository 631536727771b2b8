"""The compiled form of a playbook: an immutable graph of steps with compiled templates, shared by all its executions.

The control plane evaluates `Step.set`, `Arc.when`, `Arc.set`, `Step.admit`, the keys of limits and, when it needs no
fetch, `Loop.items`.
The worker evaluates `Step.input`, `Task.config` and `Task.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

from ..limits import DEFAULT_MAX_TURNS, WEIGHT
from .reads import Reads
from .template import Place, Template, Tree

# what the SQL of a claim calls the number of rows that it may claim
FRAME_MAX_ROWS = "__frame_max_rows"
# the pool of all steps that need no other
SHARED = "shared"
# what a pool may be called
POOL_PATTERN = "^[a-z][a-z0-9_]{0,19}$"


@dataclass(frozen=True, slots=True)
class Assignment:
    """`scope.key: template`, as in `ctx.total`."""

    scope: Literal["ctx", "vars", "iter", "step"]
    key: str
    value: Tree


@dataclass(frozen=True, slots=True)
class Rule:
    """One task rule; `when` is None for the `else` rule."""

    when: Template | None
    do: Literal["continue", "retry", "jump", "break", "fail"]
    _: KW_ONLY
    set: tuple[Assignment, ...] = ()
    to: str | None = None
    attempts: int | Template = 3
    backoff: Literal["none", "fixed", "linear", "exponential"] = "none"
    # seconds
    delay: float | Template = 1.0
    max_delay: float | Template | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class Accumulate:
    """How the results of a task's runs are collected in one run of its step."""

    name: str
    strategy: Literal["append", "replace", "merge", "concat"]
    # JSONPath of the part of each result
    path: str | None
    on_success: bool
    on_error: bool
    max_items: int | None


@dataclass(kw_only=True, frozen=True, slots=True)
class Interface:
    """Of a tool of the catalog: what its call takes and gives, as JSON Schemas. None: no input, any output."""

    path: str
    version: int
    input: Mapping[str, Any] | None
    output: Mapping[str, Any] | None

    @property
    def title(self) -> str:
        return f"{self.path} version {self.version}"

    @property
    def properties(self) -> Mapping[str, Any]:
        """Of its input, by name."""
        found: Mapping[str, Any] = (self.input or {}).get("properties", {})
        return found


@dataclass(kw_only=True, frozen=True, slots=True)
class Task:
    """One tool call of a step. A step with a single tool has one task of the step's name."""

    name: str
    kind: str
    config: Tree
    rules: tuple[Rule, ...]
    # seconds
    timeout: float | Template | None
    output: Mapping[str, Any]
    place: Place
    accumulate: Accumulate | None = None
    # names that its input, and its result, have to have
    expects: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    # bytes of JSON; a larger result is an error
    max_bytes: int | None = None
    # what Python code reads of the execution: name, or EVERYTHING -> keys of it, None for all of it; None if it reads
    # nothing
    context: Reads | None = None
    # entries of the keychain that its configuration reads
    secrets: frozenset[str] = frozenset()
    # templates of its configuration read names of its input, or of that of its step
    reads_input: bool = False
    # of a tool of the catalog, which the task calls: its configuration reads nothing but the input
    interface: Interface | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class Cursor:
    """Items that are claimed while the loop runs. A frame is what one claim returns."""

    kind: str
    auth: Tree
    claim: Tree
    # claims at most, and rows and bytes of one
    max_frames: int
    max_rows: int
    max_bytes: int
    # after which a frame begins no further row; of the lease, and between two heartbeats: None for the worker's own
    max_seconds: float
    lease_seconds: float | None
    heartbeat_seconds: float | None
    concurrency: int
    by_row: bool
    # after a retryable error, all rows of a frame are processed again, or those that failed
    retries_all: bool
    max_attempts: int


@dataclass(kw_only=True, frozen=True, slots=True)
class Loop:
    # of a cursor: of no items
    items: Template
    iterator: str
    mode: Literal["sequential", "parallel", "cursor"]
    max_in_flight: int | Template
    # of what a template gives for it
    limit: int | None = None
    best_effort: bool = False
    # distributed: a command for each item; local: batches as large as a frame may be; None: adapted to the items
    exec: Literal["distributed", "local"] | None = None
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    key: str | Template
    limit: int


@dataclass(frozen=True, slots=True)
class Rate:
    key: str | Template
    # seconds
    per: float
    limit: int


@dataclass(frozen=True, slots=True)
class AdmitRule:
    when: Template | None
    allow: bool


@dataclass(frozen=True, slots=True)
class Arc:
    index: int
    source: str
    target: str
    when: Template | None
    set: tuple[Assignment, ...]
    # leads to a step from which its source is reached: never part of a join
    back: bool
    # its `when` asks about the failure, so that a failed step may take it
    handles_failure: bool


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    tasks: tuple[Task, ...]
    is_pipeline: bool
    input: Tree | None
    loop: Loop | None
    set: tuple[Assignment, ...]
    arcs: tuple[Arc, ...]
    mode: Literal["exclusive", "inclusive"]
    on_no_match: Literal["complete", "quiet"]
    admit: tuple[AdmitRule, ...]
    # names the worker needs of each scope to run this step: a set of first path segments, None for all of it.
    # Keys: "workload", "ctx", "vars", and every step name it reads
    reads: Mapping[str, frozenset[str] | None]
    # one of its tasks gives the worker back while a sub-playbook runs
    parks: bool
    place: Place
    # the execution ends with a warning if no arc of the step was taken: not all its arcs are only for failures, and
    # on_no_match is not set
    warns_on_no_match: bool = False
    # what it reads of ctx cannot change while it runs
    ctx_is_stable: bool = False
    # rules of its tasks set keys of iter
    sets_iter: bool = False
    # the keys of its input that read the keychain, rendered anew for each call, and the entries that they read
    secret_input: Mapping[str, Tree] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    # seconds, of one run of the step in all
    timeout: float | None = None
    # the step that undoes it, if any; and the step that it undoes itself
    compensation: str | None = None
    compensates: str | None = None
    # the pool that the playbook names for it
    pool: str | None = None
    # of its commands, in the whole deployment
    concurrency: Concurrency | None = None
    rate: Rate | None = None

    @property
    def all_secrets(self) -> frozenset[str]:
        """The entries of the keychain that its input or one of its tasks reads."""
        return self.secrets.union(*(task.secrets for task in self.tasks))

    @property
    def runs_items_singly(self) -> bool:
        """Whether each item of its loop is a frame of its own. Those that may be undone are, so that what has been done
        is known when the others stop."""
        assert self.loop is not None
        is_distributed = self.loop.exec == "distributed" or self.loop.cursor is not None
        return is_distributed or self.parks or self.is_limited or self.compensation is not None

    @property
    def is_limited(self) -> bool:
        return self.concurrency is not None or self.rate is not None

    @property
    def may_retry(self) -> bool:
        return any(rule.do == "retry" for task in self.tasks for rule in task.rules)


@dataclass(frozen=True, slots=True)
class Budget:
    """What an execution may spend on its own commands, without those of its sub-playbooks; `prices` names a table."""

    max_invocations: int | None
    max_billed_seconds: float | None
    max_cost_usd: float | None
    prices: str


@dataclass(kw_only=True, frozen=True, slots=True)
class KeychainEntry:
    """A secret that a worker resolves when a tool needs it: see `keychain`."""

    name: str
    kind: str
    scope: Literal["local", "global", "shared"]
    auto_renew: bool
    # seconds that a fetched value is kept at most
    ttl: float | None
    # the keys of its kind
    config: Mapping[str, Tree]
    # other entries that its templates read
    needs: frozenset[str]
    # what else they read
    reads: Mapping[str, frozenset[str] | None]
    # none of them reads the fields of its credential
    sends_auth: bool
    place: Place


@dataclass(kw_only=True, frozen=True, slots=True)
class Trigger:
    """Events that start an execution: see `triggers`."""

    name: str
    kind: Literal["webhook", "object", "message", "playbook"]
    enabled: bool
    # what it listens to, as it is looked up by: the path of a playbook, the URL of a bucket, the name of a queue
    source: str
    # the keys of its kind
    config: Mapping[str, Any]
    when: Template | None
    input: Tree
    # of a message: what gives its id
    event_id: Template | None
    place: Place


@dataclass(kw_only=True, frozen=True, slots=True)
class Plan:
    hash: str
    name: str
    path: str
    workload: Mapping[str, Any]
    entry: str
    final_step: str | None
    no_next_is_error: bool
    steps: Mapping[str, Step]
    # those of them that are loops
    loops: frozenset[str] = frozenset()
    # whether one of them has a timeout, or a compensation
    has_step_timeouts: bool = False
    has_compensations: bool = False
    # a step of it limits its concurrency
    has_slots: bool = False
    # forward arcs into each step; more than one source makes it a join
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # every step that can be reached from a step over any arcs, itself only if on a cycle
    reach: Mapping[str, Set[str]] = field(default_factory=dict)
    # the same over forward arcs only
    reach_forward: Mapping[str, Set[str]] = field(default_factory=dict)
    # for each target of back-edges: the steps they come from, and all steps on the paths from it to these, itself
    # included
    back_sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    bodies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # seconds, of the whole execution
    timeout: float | None = None
    # how often a step may begin
    max_turns: int = DEFAULT_MAX_TURNS
    # its weight when it competes with others for workers
    weight: int = WEIGHT
    # pipelined: a worker may run steps before the outcomes they follow from are durable
    durability: Literal["step", "pipelined"] = "step"
    budget: Budget | None = None
    # JSON Schemas of the workload and of the result
    input_schema: Mapping[str, Any] | None = None
    result_schema: Mapping[str, Any] | None = None
    # of its executions, in the whole deployment
    concurrency: Concurrency | None = None
    rate: Rate | None = None
    keychain: Mapping[str, KeychainEntry] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    # step -> pool, for steps that name none and do not run on "shared"; a matter of the deployment, not of the playbook
    pools: Mapping[str, str] = field(default_factory=dict)

    @property
    def workflow(self) -> dict[str, Step]:
        """The steps without those that undo others."""
        return {name: step for name, step in self.steps.items() if step.compensates is None}

    @property
    def stops_steps(self) -> bool:
        """Whether a step may end while something of it is under way, and the execution goes on."""
        return self.has_step_timeouts or self.has_compensations

    @property
    def is_limited(self) -> bool:
        """Whether its executions are."""
        return self.concurrency is not None or self.rate is not None

    def pool(self, step: str) -> str:
        """The pool that runs the commands of a step: for a loop, to open it and to run its items."""
        # a quarantined execution may have steps of another version
        named = self.steps[step].pool if step in self.steps else None
        return named or self.pools.get(step, SHARED)

    def with_pools(self, kinds: Mapping[str, str]) -> Plan:
        """`kinds`: tool kind -> pool. A step that mixes kinds goes to the pool of its first task of a listed kind; one
        that names a pool goes there."""
        pools = {
            name: next(kinds[task.kind] for task in step.tasks if task.kind in kinds)
            for name, step in self.steps.items()
            if any(task.kind in kinds for task in step.tasks)
        }
        return replace(self, pools=pools) if pools else self
