"""What a playbook is compiled to: a graph of steps with compiled templates, immutable and shared by all who run it.

The control plane evaluates `Step.set`, `Arc.when`, `Arc.set`, `Step.admit` and, when it needs no fetch, `Loop.items`.
The worker evaluates `Step.input`, `Task.config` and `Task.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

from ..limits import TURNS, WEIGHT
from .template import Place, Template, Tree

# the pool that runs whatever is for no other
SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Assignment:
    """`scope.key: template`, as in `ctx.total`."""

    scope: Literal["ctx", "iter", "step"]
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
    attempts: int = 3
    backoff: Literal["none", "fixed", "linear", "exponential"] = "none"
    delay: float = 1.0


@dataclass(kw_only=True, frozen=True, slots=True)
class Task:
    """One tool call of a step. A step with a single tool has one task of the step's name."""

    name: str
    kind: str
    config: Tree
    rules: tuple[Rule, ...]
    timeout: float | None
    output: Mapping[str, Any]
    place: Place


@dataclass(kw_only=True, frozen=True, slots=True)
class Loop:
    items: Template
    iterator: str
    mode: Literal["sequential", "parallel"]
    max_in_flight: int | Template
    best_effort: bool = False


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
    # Keys: "workload", "ctx", and every step name it reads
    reads: Mapping[str, frozenset[str] | None]
    # one of its tasks gives the worker back while something else runs (a sub-playbook)
    parks: bool
    place: Place
    # the end tells of it if no arc was taken: there are arcs that ask about more than failures, and nothing says that
    # this is meant
    warns: bool = False
    # what it reads of ctx cannot change while it runs
    steady: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What an execution may spend on its own commands, without those of its sub-playbooks; `prices` names a table."""

    max_invocations: int | None
    max_billed_seconds: float | None
    max_cost_usd: float | None
    prices: str


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
    # forward arcs into each step; more than one source makes it a join
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # every step that can be reached from a step over any arcs, itself only if on a cycle
    reach: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # the same over forward arcs alone
    reach_forward: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # of each step that arcs lead back to: the steps they come from, and all on the ways from it to them, itself too
    back_sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    bodies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # how often a step may begin
    max_turns: int = TURNS
    # what it weighs when it waits beside others
    weight: int = WEIGHT
    # pipelined: a worker may run steps before the outcomes they follow from are durable
    durability: Literal["step", "pipelined"] = "step"
    budget: Budget | None = None
    # the steps whose commands are not for the pool "shared"; how a deployment is laid out, no part of the playbook
    pools: Mapping[str, str] = field(default_factory=dict)

    def pool(self, step: str) -> str:
        return self.pools.get(step, SHARED)

    def with_pools(self, kinds: Mapping[str, str]) -> Plan:
        """`kinds`: tool kind -> pool. A step that mixes kinds goes where the first that needs another pool goes."""
        pools = {
            name: next(kinds[task.kind] for task in step.tasks if task.kind in kinds)
            for name, step in self.steps.items()
            if any(task.kind in kinds for task in step.tasks)
        }
        return replace(self, pools=pools) if pools else self
