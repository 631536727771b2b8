"""Which signals steps wait for, and which of them for the one that an entry of the keychain of kind callback sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .plan import KeychainEntry, Plan, Step
from .scope import build_scope
from .template import SqlTemplate, Template, Tree, render_tree
from .template_error import TemplateError

# keys that name a signal, in an entry and in a wait
KEYS: Final = ("signal", "approval")


def is_approval(entry: KeychainEntry) -> bool:
    return entry.config.get("approval") is not None


def name_of(entry: KeychainEntry) -> Tree:
    """The name of its signal, as a text or a template."""
    return entry.config["approval" if is_approval(entry) else "signal"]


def signal_of(entry: KeychainEntry, workload: Mapping[str, Any], execution_id: str) -> Any:
    """The name of its signal in an execution; raises TemplateError."""
    scope = build_scope(workload=workload, ctx={}, steps={}, loops=frozenset(), execution_id=execution_id)
    return render_tree(name_of(entry), scope)


def sends(plan: Plan, signal: str, workload: Mapping[str, Any], execution_id: str) -> bool:
    """Whether an entry of kind callback sends the signal."""
    for entry in plan.keychain.values():
        if entry.kind != "callback":
            continue
        try:
            if signal_of(entry, workload, execution_id) == signal:
                return True
        except TemplateError:
            # no URL of it can be made
            continue
    return False


def steps_that_wait(plan: Plan, entry: KeychainEntry) -> list[str]:
    """The steps with a wait whose signal is written as that of the entry, as a text or as a template."""
    wanted = _written(name_of(entry))
    return [step.name for step in plan.steps.values() if any(_written(name) == wanted for _, name in awaited(step))]


def may_be_awaited(plan: Plan, entry: KeychainEntry) -> bool:
    """Whether a step waits for it, or may: a name that a template gives is not known before a run."""
    if steps_that_wait(plan, entry):
        return True
    names = [name for step in plan.steps.values() for _, name in awaited(step)]
    return bool(names) and (is_template(name_of(entry)) or any(map(is_template, names)))


def steps_of_other_kind(plan: Plan, entry: KeychainEntry) -> list[str]:
    """Of the steps that wait for it, those that take a decision where the entry asks for a value, or a value where it
    asks for a decision; none if one fits."""
    wanted = "approval" if is_approval(entry) else "signal"
    found = {step: {key for key, _ in awaited(plan.steps[step])} for step in steps_that_wait(plan, entry)}
    return [] if any(wanted in keys for keys in found.values()) else list(found)


def parallel_loops_that_read(plan: Plan, entry: KeychainEntry) -> list[str]:
    """Steps whose items, at once, each read the entry's URL and wait for its signal."""
    steps = [plan.steps[name] for name in steps_that_wait(plan, entry)]
    return [
        step.name
        for step in steps
        if entry.name in step.all_secrets and step.loop is not None and step.loop.mode != "sequential"
    ]


def awaited(step: Step) -> Iterator[tuple[str, Tree]]:
    """What the waits of a step are for: one of KEYS, and the name of the signal, as a text or a template."""
    for task in step.tasks:
        if task.kind == "wait" and isinstance(task.config, dict):
            yield from ((key, task.config[key]) for key in KEYS if task.config.get(key) is not None)


def is_template(name: Tree) -> bool:
    return isinstance(name, Template | SqlTemplate)


def _written(name: Tree) -> tuple[bool, str]:
    return (True, name.source) if isinstance(name, Template | SqlTemplate) else (False, str(name))
