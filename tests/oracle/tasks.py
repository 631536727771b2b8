"""One run of a step, or of one item of its loop: its tasks in turn, and what their rules make of each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .names import RESERVED, Outcome, Scope, parted
from .playbook import PREVIOUS, Rule, Step, Task
from .template import Unrenderable, holds, render

MOST_TURNS = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """What a tool is asked. `item`: index in the loop; `visit`: how often the task was come to, from 1."""

    step: str
    generation: int
    item: int | None
    task: str
    visit: int
    attempt: int
    kind: str
    input: Mapping[str, Any]
    config: Mapping[str, Any]


Answer = Callable[[Call], Outcome]


class _Failed(Exception):
    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error)
        self.error = error


class Run:
    def __init__(
        self,
        step: Step,
        generation: int,
        scope: Scope,
        answer: Answer,
        iteration: Mapping[str, Any] | None = None,
        loop: Mapping[str, Any] | None = None,
    ) -> None:
        self._step = step
        self._generation = generation
        self._answer = answer
        self._scope = scope
        sets_iter = any(key.startswith("iter.") for task in step.tasks for rule in task.rules for key in rule.set)
        self._iter = dict(iteration) if iteration is not None else {} if sets_iter else None
        self._loop = loop
        self._local: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._set: dict[str, Any] = {}
        self._visits: dict[str, int] = {}
        self._last: Any = None
        self._collected: dict[str, Any] = {}
        # seconds that it waits between attempts, at least
        self.waited = 0.0

    def run(self) -> Outcome:
        status = "ok"
        index, attempt, turns = 0, 1, 0
        try:
            while index < len(self._step.tasks):
                turns += 1
                if turns > MOST_TURNS:
                    raise _Failed({"code": "rule.endless"})
                task = self._step.tasks[index]
                if attempt == 1:
                    self._visits[task.label] = self._visits.get(task.label, 0) + 1
                outcome = self._call(task, attempt)
                self._collect(task, outcome)
                rule = self._rule(task, outcome, attempt)
                do = rule.do if rule else ("fail" if outcome.status == "error" else "continue")
                if rule is not None and do == "retry" and attempt >= rule.attempts:
                    raise _Failed(outcome.error or {"code": "rule.retry_exhausted"})
                if rule is not None:
                    self._write(rule, outcome, task, attempt)
                if rule is not None and do == "retry":
                    self.waited += rule.wait(attempt)
                    attempt += 1
                    continue
                if do == "fail":
                    raise _Failed(outcome.error or {"code": "rule.fail"})
                self._results[task.label] = self._last = outcome.data
                if do == "break":
                    status = "break"
                    break
                index = self._target(rule, index) if rule is not None and do == "jump" else index + 1
                attempt = 1
        except _Failed as failed:
            return Outcome("error", error=failed.error, set=self._set)
        return Outcome("ok", data=self._data(status), set=self._set)

    def _data(self, status: str) -> Any:
        if not self._step.is_pipeline:
            if not self._collected:
                return self._last
            own = self._last if isinstance(self._last, Mapping) else {"data": self._last}
            return {**own, **self._collected}
        last = self._last if isinstance(self._last, Mapping) else {"_prev": self._last}
        return {**last, **self._collected, "results": dict(self._results), "status": status}

    def _collect(self, task: Task, outcome: Outcome) -> None:
        how = task.accumulate
        if how is None or not (how.on_error if outcome.status == "error" else how.on_success):
            return
        part, before = _at(outcome.data, how.path), self._collected.get(how.name)
        match how.strategy:
            case "replace":
                after = part
            case "merge":
                after = {**(before or {}), **part}
            case "concat":
                after = [*(before or ()), *part]
            case _:
                after = [*(before or ()), part]
        if how.max_items is not None and len(after) > how.max_items:
            raise _Failed({"code": "value.too_large"})
        self._collected = {**self._collected, how.name: after}

    def _names(self, task: Task, attempt: int, outcome: Outcome | None = None) -> dict[str, Any]:
        in_ctx, variables = parted(self._set)
        scope = replace(
            self._scope, ctx={**self._scope.ctx, **in_ctx}, variables={**self._scope.variables, **variables}
        )
        more = {
            "labels": {**self._collected, **self._results},
            "iter": self._iter,
            "loop": self._loop,
            "results": dict(self._results),
            "step": dict(self._local),
            "_task": task.label,
            "_attempt": attempt,
        }
        names = scope.names(fetches=True, **more) if outcome is None else scope.after(outcome, fetches=True, **more)
        return {**names, "_prev": self._last}

    def _call(self, task: Task, attempt: int) -> Outcome:
        names = self._names(task, attempt)
        try:
            of_step = render(self._step.input, names)
            given = {**of_step, **render(task.input, _nearer(of_step, names))}
            config = render(task.config, _nearer(given, names))
        except Unrenderable as error:
            return Outcome("error", error={"code": "template.error", "message": str(error)})
        if not all(_has(given, path) for path in task.expects):
            return Outcome("error", error={"code": "assert.expects"})
        item = (self._iter or {}).get("_index")
        visit = self._visits[task.label]
        outcome = self._answer(
            Call(self._step.name, self._generation, item, task.label, visit, attempt, task.kind, given, config)
        )
        if outcome.status == "ok" and not all(_has(outcome.data, path) for path in task.returns):
            return replace(outcome, status="error", error={"code": "assert.returns"})
        return outcome

    def _rule(self, task: Task, outcome: Outcome, attempt: int) -> Rule | None:
        names = self._names(task, attempt, outcome)
        try:
            return next((rule for rule in task.rules if rule.when is None or holds(rule.when, names)), None)
        except Unrenderable as error:
            raise _Failed(_beside(outcome, error)) from error

    def _write(self, rule: Rule, outcome: Outcome, task: Task, attempt: int) -> None:
        """All values are rendered before any takes effect."""
        names = self._names(task, attempt, outcome)
        try:
            values = {key: render(value, names) for key, value in rule.set.items()}
        except Unrenderable as error:
            raise _Failed(_beside(outcome, error)) from error
        for key, value in values.items():
            scope, _, name = key.partition(".")
            place = {"ctx": self._set, "vars": self._set, "step": self._local, "iter": self._iter}[scope]
            assert place is not None
            place[key if scope == "vars" else name] = value

    def _target(self, rule: Rule, index: int) -> int:
        if rule.to in PREVIOUS:
            return index - 1
        labels = [task.label for task in self._step.tasks]
        if rule.to not in labels:
            raise _Failed({"code": "rule.no_target"})
        return labels.index(rule.to)


def _has(value: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def _beside(outcome: Outcome, error: Unrenderable) -> dict[str, Any]:
    """What the call failed with comes first."""
    routing = {"code": "template.error", "message": str(error)}
    return routing if outcome.error is None else {**outcome.error, "routing": routing}


def _nearer(given: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """What a task is given hides everything but the reserved names."""
    return {**names, **{name: value for name, value in given.items() if name not in RESERVED}}


def iteration_of(step: Step, items: list[Any], index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """`iter` and `loop` of an item."""
    assert step.loop is not None
    first, last = index == 0, index == len(items) - 1
    names = {step.loop.iterator: items[index], "_index": index, "_first": first, "_last": last}
    return names, {"index": index, "first": first, "last": last, "length": len(items), "done": False}
