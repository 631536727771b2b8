"""What nothing undoes, in a playbook that undoes steps when it fails: other steps, and tasks before others."""

from __future__ import annotations

from typing import Final

from .faults import Faults
from .model import Playbook
from .plan import Plan, Step, Task

_WITHOUT_EFFECT: Final = frozenset({"noop", "wait", "python", "duckdb"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def warn(playbook: Playbook, plan: Plan, faults: Faults) -> None:
    """Warn of each step with an effect outside after which, or beside which, the execution may fail."""
    forks = any(step.mode == "inclusive" and len(step.arcs) > 1 for step in plan.steps.values())
    for index, step in enumerate(plan.workflow.values()):
        if step.compensation is not None:
            _warn_of_tasks(step, index, faults)
        if playbook.workflow[index].compensate is not None or not _has_effect(step):
            continue
        if forks or step.loop is not None or plan.reach[step.name]:
            message = (
                f"nothing undoes the step '{step.name}' when the execution fails after it, while other steps are undone"
                ": add compensate, or write compensate: none"
            )
            faults.add(message, ("workflow", index, "step"), "playbook.not_compensated")


def _warn_of_tasks(step: Step, index: int, faults: Faults) -> None:
    """Only what has ended well is undone: not the first tasks of a step that fails by a later one."""
    first = next((task for task in step.tasks[:-1] if _may_change(task)), None)
    if first is not None:
        message = (
            f"nothing undoes the task '{first.name}' if a task after it fails, because only steps that end well are "
            "undone: put each effect into a step of its own"
        )
        faults.add(message, ("workflow", index, "tool"), "playbook.not_compensated")


def _has_effect(step: Step) -> bool:
    return any(_may_change(task) for task in step.tasks)


def _may_change(task: Task) -> bool:
    config = task.config if isinstance(task.config, dict) else {}
    match task.kind:
        case "http":
            return str(config.get("method", "GET")).upper() not in _SAFE_METHODS
        case "postgres":
            command = config.get("command") or config.get("query") or ""
            return not str(getattr(command, "source", command)).lstrip(" (\n").upper().startswith("SELECT")
    return task.kind not in _WITHOUT_EFFECT
