"""A playbook as the document says it, with what the language leaves open filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from .graph import Graph
from .template import names_in

# keys of a tool that are not its kind's own
OF_TASK = frozenset({"kind", "name", "input", "spec", "output", "assert"})
CHECKS = ("expects", "returns")
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
PREVIOUS = frozenset({"previous", "prev", "_previous", "@previous"})


@dataclass(frozen=True, slots=True)
class Rule:
    # None: whatever happened
    when: Any
    do: str
    to: str | None = None
    attempts: int = 3
    set: Mapping[str, Any] = field(default_factory=dict)
    # of a retry: how the delays grow, the first of them in seconds (None if it is a template), and the longest
    backoff: str = "fixed"
    delay: float | None = 0.0
    max_delay: float = 86_400.0

    def wait(self, attempt: int) -> float:
        """Seconds until the attempt after this one, at least."""
        if self.backoff == "none" or self.delay is None:
            return 0.0
        growth = {"linear": attempt, "exponential": 2 ** min(attempt - 1, 40)}.get(self.backoff, 1)
        return float(min(self.delay * growth, self.max_delay))


@dataclass(frozen=True, slots=True)
class Accumulate:
    """What is collected of each run of a task, and under which name; `path`: the part of its result."""

    name: str
    strategy: str
    path: tuple[str, ...]
    on_success: bool
    on_error: bool
    max_items: int | None


@dataclass(frozen=True, slots=True)
class Task:
    """`expects` and `returns`: paths that its input and its result must have."""

    label: str
    kind: str
    input: Mapping[str, Any]
    config: Mapping[str, Any]
    rules: tuple[Rule, ...]
    accumulate: Accumulate | None = None
    expects: tuple[tuple[str, ...], ...] = ()
    returns: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Arc:
    target: str
    when: Any
    set: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loop:
    # None for a cursor
    items: Any
    iterator: str
    sequential: bool
    best_effort: bool
    # how many items may run at once: a number, or a template
    width: Any
    # how many claims a cursor may make
    max_claims: int = 100_000


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    tasks: tuple[Task, ...]
    is_pipeline: bool
    input: Mapping[str, Any]
    set: Mapping[str, Any]
    arcs: tuple[Arc, ...]
    inclusive: bool
    # what lies behind arcs that are not taken stays as it is, neither run nor skipped
    quiet: bool
    # (condition or None, whether it may run)
    admit: tuple[tuple[Any, bool], ...]
    loop: Loop | None
    # whether a run of it, as a whole, may take only so long
    is_timed: bool = False
    # the step that undoes it, and the step that it undoes
    compensation: Step | None = None
    undoes: str | None = None
    # of each limit: the template of what it is counted by, if the playbook has one, and how many there may be
    limits: Mapping[str, tuple[Any, int]] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The names that the templates of its tasks look up, but for what its own tasks are called."""
        trees = [self.input, *(part for task in self.tasks for part in (task.input, task.config))]
        trees += [part for task in self.tasks for rule in task.rules for part in (rule.when, rule.set)]
        return frozenset().union(*map(names_in, trees)) - {task.label for task in self.tasks}


@dataclass(frozen=True, slots=True)
class Playbook:
    path: str
    steps: Mapping[str, Step]
    entry: str
    final: str | None
    no_next_is_error: bool
    # how often a step may begin
    max_turns: int
    budget: Mapping[str, Any]
    workload: Mapping[str, Any]
    graph: Graph
    # seconds that an execution may take
    timeout: float | None = None
    # entry of the keychain -> its fields
    keychain: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # JSON Schema of its result
    result_schema: Any = None
    limits: Mapping[str, tuple[Any, int]] = field(default_factory=dict)


def read(text: str) -> Playbook:
    document = yaml.safe_load(text)
    workbook = {task["name"]: task["tool"] for task in document.get("workbook") or ()}
    written = {step["step"]: _step(step, workbook) for step in document["workflow"]}
    undoing = {step.compensation.name: step.compensation for step in written.values() if step.compensation}
    spec = (document.get("executor") or {}).get("spec") or {}
    entry = spec.get("entry_step") or next(iter(written))
    metadata = document["metadata"]
    return Playbook(
        path=metadata.get("path") or metadata["name"],
        steps=written | undoing,
        entry=entry,
        final=spec.get("final_step"),
        no_next_is_error=bool(spec.get("no_next_is_error")),
        max_turns=spec.get("max_turns") or 10_000,
        budget=spec.get("budget") or {},
        workload=document.get("workload") or {},
        graph=Graph({name: [arc.target for arc in step.arcs] for name, step in written.items()}, entry),
        timeout=_seconds(spec.get("timeout")),
        keychain={entry["name"]: _fields(entry) for entry in document.get("keychain") or ()},
        result_schema=(document.get("schemas") or {}).get("result"),
        limits=_limits(spec),
    )


def _limits(spec: Mapping[str, Any]) -> dict[str, tuple[Any, int]]:
    given = {name: spec.get(name) for name in ("concurrency", "rate")}
    return {name: (limit.get("key"), limit["limit"]) for name, limit in given.items() if limit}


def _fields(entry: Mapping[str, Any]) -> tuple[str, ...]:
    tokens = ("token", "access_token") if entry.get("kind", "credential") in ("bearer", "oauth2") else ()
    return tuple(entry.get("map") or tokens)


def _seconds(value: Any) -> float | None:
    """Of a number, or a text with units; None of a template."""
    if value is None or isinstance(value, int | float):
        return value
    parts = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|d|h|m|s))+", str(value).strip())
    if parts is None:
        return None
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|d|h|m|s)", parts[0]))


def _step(step: Mapping[str, Any], workbook: Mapping[str, Any]) -> Step:
    tools = step.get("tool", {"kind": "noop"})
    is_pipeline = isinstance(tools, list)
    named = [
        (tool.get("name") or f"task_{number}") if is_pipeline else _single_label(step["step"], tool)
        for number, tool in enumerate(tools if is_pipeline else [tools], 1)
    ]
    router = step.get("next") or {}
    policy = (step.get("spec") or {}).get("policy") or {}
    return Step(
        name=step["step"],
        tasks=tuple(
            _task(tool, label, workbook) for tool, label in zip(tools if is_pipeline else [tools], named, strict=True)
        ),
        is_pipeline=is_pipeline,
        input=step.get("input") or {},
        set=step.get("set") or {},
        arcs=tuple(Arc(arc["step"], arc.get("when"), arc.get("set") or {}) for arc in router.get("arcs") or ()),
        inclusive=(router.get("spec") or {}).get("mode") == "inclusive",
        quiet=(router.get("spec") or {}).get("on_no_match") == "quiet",
        admit=tuple(_admission(rule) for rule in (policy.get("admit") or {}).get("rules") or ()),
        loop=_loop(step["loop"], policy) if step.get("loop") else None,
        is_timed="lifecycle" in policy,
        compensation=_compensation(step, workbook),
        limits=_limits(step.get("spec") or {}),
    )


def _compensation(step: Mapping[str, Any], workbook: Mapping[str, Any]) -> Step | None:
    given: Any = step.get("compensate")
    if given in (None, "none"):
        return None
    return replace(_step({"step": f"{step['step']}.compensate", **given}, workbook), undoes=step["step"])


def _single_label(step: str, tool: Mapping[str, Any]) -> str:
    return str(tool.get("name") or step) if tool["kind"] != "workbook" else step


def _task(tool: Mapping[str, Any], label: str, workbook: Mapping[str, Any]) -> Task:
    if tool["kind"] == "workbook":
        named = workbook[tool["name"]]
        rules = _rules(tool) or _rules(named)
        own = {**(named.get("input") or {}), **(tool.get("input") or {})}
        return Task(label, named["kind"], own, _config(named), rules, *_results(named))
    return Task(label, tool["kind"], tool.get("input") or {}, _config(tool), _rules(tool), *_results(tool))


def _config(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tool.items() if key not in OF_TASK}


def _results(tool: Mapping[str, Any]) -> tuple[Accumulate | None, tuple[Any, ...], tuple[Any, ...]]:
    checks = tool.get("assert") or {}
    expects, returns = (tuple(tuple(path.split(".")) for path in checks.get(name) or ()) for name in CHECKS)
    return _accumulate((tool.get("output") or {}).get("accumulate")), expects, returns


def _accumulate(given: Mapping[str, Any] | None) -> Accumulate | None:
    if given is None or given.get("enabled") is False:
        return None
    path = tuple(part for part in str(given.get("merge_path") or "$").removeprefix("$").split(".") if part)
    return Accumulate(
        given.get("manifest_as") or "accumulated",
        given.get("strategy") or "append",
        path,
        given.get("on_success") is not False,
        bool(given.get("on_error")),
        given.get("max_items"),
    )


def _rules(tool: Mapping[str, Any]) -> tuple[Rule, ...]:
    rules = ((tool.get("spec") or {}).get("policy") or {}).get("rules") or ()
    return tuple(_rule(rule) for rule in rules)


def _rule(rule: Mapping[str, Any]) -> Rule:
    otherwise = rule.get("else")
    then = otherwise["then"] if otherwise else rule["then"]
    when = None if otherwise else rule["when"]
    backoff, delay = then.get("backoff"), then.get("delay")
    return Rule(
        when,
        then.get("do", "continue"),
        then.get("to"),
        then.get("attempts") or 3,
        then.get("set") or {},
        backoff or "fixed",
        _seconds(delay) if delay is not None else float(backoff is not None),
        _seconds(then.get("max_delay")) or 86_400.0,
    )


def _admission(rule: Mapping[str, Any]) -> tuple[Any, bool]:
    if "else" in rule:
        return None, bool(rule["else"]["then"]["allow"])
    return rule["when"], bool(rule["then"]["allow"])


def _loop(loop: Mapping[str, Any], policy: Mapping[str, Any]) -> Loop:
    spec = loop.get("spec") or {}
    mode = spec.get("mode", "sequential")
    failure = (spec.get("policy") or {}).get("failure") or policy.get("failure") or {}
    best_effort = failure.get("mode") == "best_effort"
    max_claims = ((loop.get("cursor") or {}).get("options") or {}).get("max_iterations", 100_000)
    width = spec.get("max_in_flight", 1)
    return Loop(loop.get("in"), loop["iterator"], mode == "sequential", best_effort, width, max_claims)
