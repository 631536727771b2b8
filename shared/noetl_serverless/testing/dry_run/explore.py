"""Dry-runs a playbook along all its paths, as far as they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...engine.variables import place_of
from ...orchestrator.start import initial_values
from ...playbook.plan import Concurrency, Plan, Rate
from ...playbook.template import Template
from ...telemetry.masking import masking
from ..answers import Answers, Given, TaskKey, answer_name
from .decider import Choices
from .path import DryPath, DryStep, play, undecided
from .pipeline import DryCall
from .unknown import as_document

# more are not followed: paths, and steps and calls in all of them
MAX_PATHS: Final = 50
MAX_SIZE: Final = 40_000
# of a path that is too long to be followed to its end, these are enough to see why
MAX_STEPS_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class DryRun:
    """`complete`: whether every branch was followed."""

    plan: Plan
    paths: list[DryPath]
    complete: bool

    @property
    def ends_well(self) -> bool:
        return all(path.status == "completed" for path in self.paths)

    def document(self) -> dict[str, Any]:
        """In JSON; an unknown value is {"$unknown": its template}."""
        document: dict[str, Any] = masking.tree(
            {
                "path": self.plan.path,
                "complete": self.complete,
                "limits": _limits(self.plan.concurrency, self.plan.rate),
                "paths": [_path(self.plan, path) for path in self.paths],
            }
        )
        return document


async def dry_run(plan: Plan, payload: Mapping[str, Any], answers: Mapping[TaskKey, Given]) -> DryRun:
    """Decide `plan` without calling a tool. A tool that `answers` has nothing for succeeds, with an unknown result;
    each condition that reads one is followed both ways. Raises InvalidRequest for a payload that does not fit."""
    workload, ctx, _ = initial_values(plan, payload)
    choices = Choices()
    paths: list[DryPath] = []
    while len(paths) < MAX_PATHS and sum(path.size for path in paths) < MAX_SIZE:
        paths.append(await play(plan, workload, ctx, Answers(answers), choices))
        if not choices.begin_next():
            return DryRun(plan, paths, complete=True)
    return DryRun(plan, paths, complete=False)


def _path(plan: Plan, path: DryPath) -> dict[str, Any]:
    shown = path.steps[:MAX_STEPS_SHOWN] if path.is_too_long else path.steps
    return {
        "status": path.status,
        "error": as_document(path.error),
        "choices": [as_document(condition) for condition in undecided(shown)],
        "steps": [_step(plan, step) for step in shown],
        "more_steps": len(path.steps) - len(shown),
        "warnings": path.warnings,
    }


def _step(plan: Plan, step: DryStep) -> dict[str, Any]:
    document: dict[str, Any] = {
        "step": step.step,
        "generation": step.generation,
        "pool": plan.steps[step.step].pool,
        "limits": _limits(plan.steps[step.step].concurrency, plan.steps[step.step].rate),
        "skipped": step.skipped,
        "calls": [_call(answer_name(plan, step.step, call.task), call) for call in step.calls],
        "more_calls": step.more_calls,
        "conditions": [as_document(condition) for condition in step.conditions],
        "set": {place_of(name): as_document(value) for name, value in step.set.items()},
        "next": step.arcs,
        "error": as_document(step.error),
    }
    if step.loop is not None:
        items = step.loop.items.source if step.loop.cursor is None else f"a {step.loop.cursor.kind} cursor"
        document["loop"] = {"in": items, "mode": step.loop.mode, "count": step.count}
    return document


def _limits(concurrency: Concurrency | None, rate: Rate | None) -> dict[str, Any]:
    """{concurrency: {key, limit}, rate: {key, limit, per}}, those that there are, with their keys as written."""
    limits: dict[str, Any] = {}
    if concurrency is not None:
        limits["concurrency"] = {"key": _key(concurrency), "limit": concurrency.limit}
    if rate is not None:
        limits["rate"] = {"key": _key(rate), "limit": rate.limit, "per": rate.per}
    return limits


def _key(limit: Concurrency | Rate) -> str:
    return limit.key.source if isinstance(limit.key, Template) else limit.key


def _call(name: str, call: DryCall) -> dict[str, Any]:
    return {
        "name": name,
        "task": call.task,
        "kind": call.kind,
        "attempt": call.attempt,
        "config": as_document(call.config),
        "input": as_document(call.input),
        "answered": call.answered,
        "rules": [as_document(rule) for rule in call.rules],
        "waits": call.waits,
    }
