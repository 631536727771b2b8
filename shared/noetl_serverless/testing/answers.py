"""Answers that stand in for tools, by the task that they are for: in the cases of a playbook's test, and in a dry run.

fetch: {total: 3}                      the result of every call
fetch: {error: {code: http.timeout}}   every call fails; with `retryable`, `message` and whatever else rules read
fetch: [{error: {}}, {total: 3}]       of the first and the second call; for a loop, of the first and the second item
fetch: {result: [1, 2], http: {...}}   for a result that is a list, and for `output.http`, `output.pg`, `output.py`
fetch: run                             the tool itself
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final, TypeAlias

from ..engine.waits import REJECTED, rejection
from ..playbook import approvals
from ..playbook.document import Path, plain_data
from ..playbook.faults import Faults, did_you_mean
from ..playbook.plan import Plan, Task
from ..plurals import counted
from ..tools.port import ToolCall, ToolFailure, ToolOutcome
from .tools import CallPlace

RUN: Final = "run"
# tools that reach nothing outside of this machine's processes
HARMLESS: Final = frozenset({"noop", "python", "duckdb"})
# parts of an answer beside the result or the error
_EXTRA: Final = ("http", "pg", "py")
_PARTS: Final = frozenset({"result", "error", *_EXTRA})
# an answer is the result of the wait, which says who decided
DECIDED_BY: Final = {"kind": "user", "name": "test"}
_DECISION: Final = approvals.FIELDS | {"by"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call answers. `runs`: whatever the tool itself does."""

    data: Any = None
    error: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    runs: bool = False

    def outcome(self) -> ToolOutcome:
        data, extra = copy.deepcopy(self.data), copy.deepcopy(dict(self.extra))
        if self.error is None:
            return ToolOutcome("ok", data, extra=extra)
        return ToolOutcome("error", data, {"message": "the answer given for it is this error", **self.error}, extra)


# a tuple: one for each call, or for each item of a loop, of which each may be one for each call of that item
Given: TypeAlias = "Answer | tuple[Given, ...]"
# the names of a step and of its task
TaskKey: TypeAlias = tuple[str, str]


class NoAnswer(LookupError):
    """A call that no answer was given for; the message says what to add."""


class Answers:
    """The answers of one run, and how many of them its calls have taken."""

    def __init__(self, given: Mapping[TaskKey, Given]) -> None:
        self._given = given
        self._calls: Counter[tuple[Any, ...]] = Counter()

    def has(self, step: str, task: str) -> bool:
        return (step, task) in self._given

    @property
    def taken_of_lists(self) -> Mapping[TaskKey, int]:
        """How many answers each list has given to steps without a loop. For the items of a loop lists begin again."""
        return {
            (step, task): count
            for (step, task, *run), count in self._calls.items()
            if not run and isinstance(self._given.get((step, task)), tuple)
        }

    def take(self, place: CallPlace, task: str) -> Answer:
        """The answer of the next call at `place`; `task` is how a message names the task. Raises NoAnswer."""
        given = self._given.get((place.step, place.task))
        if given is None:
            raise NoAnswer(f"there is no answer for {task}")
        if isinstance(given, tuple) and place.item is not None:
            if place.item >= len(given):
                raise NoAnswer(
                    f"item {place.item} of the loop '{place.step}' has no answer: there "
                    f"{'is' if len(given) == 1 else 'are'} {counted(len(given), 'answer')} for {task}"
                )
            given = given[place.item]
        # each run of a loop begins again with the answers of its items
        run = () if place.item is None else (place.generation, place.item)
        key = (place.step, place.task, *run)
        self._calls[key] += 1
        if isinstance(given, Answer):
            return given
        if self._calls[key] > len(given):
            of_item = "" if place.item is None else f" for item {place.item}"
            raise NoAnswer(
                f"{task} was called {counted(self._calls[key], 'time')}{of_item}, and there "
                f"{'is' if len(given) == 1 else 'are'} {counted(len(given), 'answer')}"
            )
        answer = given[self._calls[key] - 1]
        assert isinstance(answer, Answer)
        return answer


def outcome_of(call: ToolCall, answer: Answer) -> ToolOutcome:
    """What `answer` is to `call`: that of an approval is the decision, and who made it."""
    approval = call.config.get("approval") if call.kind == "wait" and answer.error is None else None
    if approval is None:
        return answer.outcome()
    if (refused := rejection(str(approval), answer.data)) is not None:
        return ToolFailure("wait", REJECTED, refused).outcome()
    return replace(answer, data={"by": dict(DECIDED_BY), **answer.data}).outcome()


def answer_name(plan: Plan, step: str, task: str) -> str:
    """What a task is called in answers: `step`, and in a pipeline `step.task`. A step that undoes another is named
    `step.compensate`."""
    found = plan.steps.get(step)
    return f"{step}.{task}" if found is not None and found.is_pipeline else step


def _parts(plan: Plan, name: str) -> tuple[str, str, str]:
    """The step, the dot and the task of a name. A step that undoes another has a dot in its own name."""
    begin = ".".join(name.split(".", 2)[:2])
    if begin in plan.steps:
        return begin, *name[len(begin) :].partition(".")[1:]
    return name.partition(".")


def task_named(plan: Plan, name: str) -> tuple[TaskKey, Task]:
    """The task that an answer names. Raises LookupError, which says what to write instead."""
    step_name, dot, task_name = _parts(plan, name)
    step = plan.steps.get(step_name)
    if step is None:
        raise LookupError(f"there is no step '{step_name}'{did_you_mean(step_name, plan.steps)}")
    tasks = {task.name: task for task in step.tasks}
    if not dot and not step.is_pipeline:
        task_name = step.tasks[0].name
    elif not dot:
        names = ", ".join(f"{step_name}.{task}" for task in tasks)
        raise LookupError(f"step '{step_name}' has several tasks: name one of {names}")
    if task_name == "compensate" and not step.is_pipeline:
        raise LookupError(f"step '{step_name}' has no compensate")
    if task_name not in tasks:
        raise LookupError(f"step '{step_name}' has no task '{task_name}'{did_you_mean(task_name, tasks)}")
    return (step_name, task_name), tasks[task_name]


def read_answers(
    plan: Plan, tools: Mapping[str, Any], path: Path, faults: Faults, *, may_run: bool = True
) -> dict[TaskKey, Given]:
    """`tools`: the answers by name, at `path` in a document; `may_run`: whether a tool itself may be called. What is
    wrong with them is added to `faults`."""
    found: dict[TaskKey, Given] = {}
    for name, value in tools.items():
        here = (*path, name)
        try:
            key, task = task_named(plan, name)
        except LookupError as error:
            faults.add(str(error.args[0]), here, "playbook.unknown_task", key=True)
            continue
        kinds = HARMLESS if may_run else frozenset()
        found[key] = _given(value, here, faults, task, kinds, levels=2 if plan.steps[key[0]].loop is not None else 1)
    return found


def _given(value: Any, path: Path, faults: Faults, task: Task, kinds: frozenset[str], levels: int) -> Given:
    """`kinds` may be run; `levels`: how deeply lists of answers may be nested."""
    if not isinstance(value, list):
        return _answer(value, path, faults, task, kinds)
    if not levels:
        faults.add("a result that is a list is written as {result: [...]}", path)
        return ()
    return tuple(_given(item, (*path, index), faults, task, kinds, levels - 1) for index, item in enumerate(value))


def _answer(value: Any, path: Path, faults: Faults, task: Task, kinds: frozenset[str]) -> Answer:
    if value == RUN:
        if not kinds:
            faults.add("no tool is called here: give what it would answer", path)
        elif task.kind not in kinds:
            faults.add(
                f"{task.kind} has effects outside: give an answer; only {', '.join(sorted(kinds))} can run", path
            )
        return Answer(runs=True)
    if not isinstance(value, dict) or not value.keys() <= _PARTS or not value.keys() & {"result", "error"}:
        _check_decision(plain_data(value), path, faults, task)
        return Answer(plain_data(value))
    error = value.get("error")
    if "error" not in value:
        _check_decision(plain_data(value["result"]), path, faults, task)
    if isinstance(error, str):
        error = {"message": error}
    if "error" in value and not isinstance(error, dict):
        faults.add("an error is an object, such as {code: http.timeout, retryable: true}, or its message", path)
        error = {}
    for name in ("code", "message"):
        if error is not None and not isinstance(error.get(name, ""), str):
            faults.add(f"the {name} of an error is a string; put it in quotes", (*path, "error", name))
    extra = {name: plain_data(value[name]) for name in _EXTRA if name in value}
    return Answer(plain_data(value.get("result")), plain_data(error), extra)


def _check_decision(data: Any, path: Path, faults: Faults, task: Task) -> None:
    config = task.config if task.kind == "wait" and isinstance(task.config, dict) else {}
    if config.get("approval") is not None and (fault := approvals.fault_of(data, _DECISION)) is not None:
        faults.add(fault, path)
