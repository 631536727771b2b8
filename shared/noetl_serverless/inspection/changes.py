"""The differences between two versions of a step, and between two values, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.canonical import canonical, plain
from ..playbook.plan import Arc, Assignment, Rule, Step, Task
from ..playbook.template import SqlTemplate, Template

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Change:
    """`recorded` is the old value, `now` the new one; ABSENT where there is none."""

    where: str
    recorded: Any
    now: Any
    # if the change concerns only one run of a step
    generation: int | None = None


def value_changes(where: str, recorded: Any, now: Any, generation: int | None = None) -> list[Change]:
    """The smallest parts that differ; lists of different lengths differ as a whole."""
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        names = [str(name) for name in dict.fromkeys((*recorded, *now))]
        parts: Iterable[tuple[str, Any, Any]] = (
            (f"{where}.{name}" if where else name, recorded.get(name, ABSENT), now.get(name, ABSENT)) for name in names
        )
    elif isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        parts = ((f"{where}[{i}]", one, other) for i, (one, other) in enumerate(zip(recorded, now, strict=True)))
    elif canonical(recorded) == canonical(now):
        return []
    else:
        return [Change(where, recorded, now, generation)]
    return [change for part, one, other in parts for change in value_changes(part, one, other, generation)]


def parameter_changes(recorded: Step, now: Step) -> list[Change]:
    """Changes in what determines its tool calls: the tools, their rules, the input, the loop, the pool."""
    return value_changes("", parameters(recorded), parameters(now))


def arc_changes(recorded: Step, now: Step) -> list[Change]:
    """Changes in what it sets, when it is admitted, and where it leads."""
    return value_changes("", routing(recorded), routing(now))


def calls_changed(recorded: Step, now: Step) -> bool:
    """Whether a call of it, or what each item of its loop sets, may have another result now: not by when it runs, or
    where, or where the step leads."""
    one, other = (_of_calls(step) for step in (recorded, now))
    return canonical(one) != canonical(other)


def parameters(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {"tool": _tools(step)}
    if step.pool is not None:
        found["pool"] = step.pool
    if step.input is not None:
        found["input"] = tree(step.input)
    if step.loop is not None:
        loop = step.loop
        found["loop"] = {
            "in": tree(loop.items),
            "iterator": loop.iterator,
            "mode": loop.mode,
            "max_in_flight": tree(loop.max_in_flight),
            "best_effort": loop.best_effort,
            "exec": loop.exec,
        }
    if (concurrency := step.concurrency) is not None:
        found["concurrency"] = {"key": tree(concurrency.key), "limit": concurrency.limit}
    if (rate := step.rate) is not None:
        found["rate"] = {"key": tree(rate.key), "per": rate.per, "limit": rate.limit}
    return found


def routing(step: Step) -> dict[str, Any]:
    return {
        "set": _assignments(step.set),
        "admit": [{"when": tree(rule.when), "allow": rule.allow} for rule in step.admit],
        "next": {"mode": step.mode, "on_no_match": step.on_no_match, "arcs": [_arc(arc) for arc in step.arcs]},
    }


def _of_calls(step: Step) -> dict[str, Any]:
    return {
        "tool": _tools(step),
        "input": tree(step.input),
        "iterator": None if step.loop is None else step.loop.iterator,
        "set": _assignments(step.set),
    }


def tree(value: Any) -> Any:
    """A compiled tree as it was written."""
    if isinstance(value, Template | SqlTemplate):
        return value.source
    if isinstance(value, Mapping):
        return {str(key): tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tree(item) for item in value]
    return plain(value)


def _tools(step: Step) -> Any:
    if len(step.tasks) == 1 and not step.is_pipeline:
        return _task(step.tasks[0])
    return {task.name: _task(task) for task in step.tasks} | {"(order)": [task.name for task in step.tasks]}


def _task(task: Task) -> dict[str, Any]:
    config = tree(task.config)
    found: dict[str, Any] = {"kind": task.kind, **(config if isinstance(config, dict) else {"config": config})}
    if task.interface is not None:
        found["catalog"] = task.interface.title
    if task.timeout is not None:
        found["timeout"] = tree(task.timeout)
    if task.output:
        found["output"] = plain(task.output)
    if task.rules:
        found["rules"] = [_rule(rule) for rule in task.rules]
    return found


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"when": tree(rule.when), "do": rule.do}
    if rule.set:
        found["set"] = _assignments(rule.set)
    if rule.do == "jump":
        found["to"] = rule.to
    if rule.do == "retry":
        found |= {"attempts": tree(rule.attempts), "backoff": rule.backoff, "delay": tree(rule.delay)}
        if rule.max_delay is not None:
            found["max_delay"] = tree(rule.max_delay)
    return found


def _arc(arc: Arc) -> dict[str, Any]:
    found: dict[str, Any] = {"step": arc.target, "when": tree(arc.when)}
    return found | ({"set": _assignments(arc.set)} if arc.set else {})


def _assignments(assignments: Iterable[Assignment]) -> dict[str, Any]:
    return {f"{item.scope}.{item.key}": tree(item.value) for item in assignments}
