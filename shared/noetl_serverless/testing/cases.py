"""Runs a case of a playbook's test, by the engine and the worker themselves; answers stand in for the tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from ..engine.canonical import canonical, plain
from ..engine.replay import logical_order
from ..errors import InvalidInput
from ..inspection.trace import trace
from ..playbook.document import Path
from ..playbook.plan import Plan
from ..playbook.template_error import TemplateError
from ..plurals import counted
from ..tools import registry
from ..tools.config import ToolConfig
from ..tools.port import Tool, ToolCall, ToolContext, ToolFailure, ToolOutcome
from .answers import HARMLESS, RUN, Answers, NoAnswer, answer_name, outcome_of, task_named
from .case_file import BoundCase, CaseFile
from .playbooks import PlaybookRun, run_playbook
from .tools import CallPlace, place_of

CASE_SECONDS: Final = 60.0
# it has no effect, and is called itself unless there is an answer
_ALWAYS_RUN: Final = "noop"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing in which a run differs from what its case expects; `line` is that of the expectation."""

    what: str
    line: int
    expected: Any
    actual: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """`problem`: why the run could not be compared at all, such as a missing answer. `seconds`: how long it took."""

    name: str
    line: int
    seconds: float
    mismatches: Sequence[Mismatch] = ()
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None and not self.mismatches


async def run_case(
    file: CaseFile, case: BoundCase, plan: Plan, playbook: str, seconds: float = CASE_SECONDS
) -> CaseResult:
    """`playbook`: the text that `plan` was compiled from; `seconds`: how long the case may take."""
    began = time.monotonic()
    stand_in = _StandIn(plan, case, began + seconds)
    kinds = {task.kind for step in plan.steps.values() for task in step.tasks}
    try:
        run = await run_playbook(
            playbook,
            case.workload,
            tools=dict.fromkeys(kinds, stand_in),
            variables=case.variables,
            expressions=list(case.expect.values),
            stop=lambda: stand_in.problem is not None or stand_in.is_late,
        )
    except InvalidInput as unfit:
        run = _refused(unfit, case)
    problem = stand_in.problem
    if problem is None and stand_in.is_late:
        problem = f"it did not end within {seconds:g} s"
    return CaseResult(
        name=case.name,
        line=file.line(case.path),
        seconds=time.monotonic() - began,
        mismatches=[] if problem else list(_compare(file, case, plan, run, stand_in.calls)),
        problem=problem,
    )


def _refused(unfit: InvalidInput, case: BoundCase) -> PlaybookRun:
    """What is not started, because its input does not fit, as a run that has failed at once."""
    error = {"kind": "playbook", "code": unfit.code, "message": unfit.detail}
    return PlaybookRun(
        status="failed",
        result=None,
        error=error,
        outcomes={},
        events=[],
        calls=[],
        values=dict.fromkeys(case.expect.values),
        waited=0.0,
    )


class _StandIn:
    """Every tool of a case: it answers as the case says, or runs the tool itself where the case asks for that.

    `problem`: why the case cannot go on. `calls`: what was called, in order."""

    config: ClassVar[type[BaseModel]] = ToolConfig

    def __init__(self, plan: Plan, case: BoundCase, deadline: float) -> None:
        self._plan = plan
        self._answers = Answers(case.answers)
        self._run = case.run | {_ALWAYS_RUN}
        self._deadline = deadline
        self._used: dict[str, Tool] = {}
        self.calls: list[tuple[CallPlace, ToolCall]] = []
        self.problem: str | None = None

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        place = place_of(call, context)
        if self.problem is not None or self.is_late:
            # the rest of a frame or a pipeline, before the engine stops
            raise ToolFailure("test", "test.stopped", "the case was stopped")
        self.calls.append((place, call))
        if not self._answers.has(place.step, place.task) and (call.kind in self._run or _waits_for_a_time(call)):
            return await self._tool_itself(call, context)
        name = answer_name(self._plan, place.step, place.task)
        try:
            answer = self._answers.take(place, f"'{name}'")
        except NoAnswer as error:
            self.problem = f"{error.args[0]}; add one to 'tools': {_advice(name, call.kind)}"
            raise ToolFailure("test", "test.no_answer", self.problem) from None
        if answer.runs:
            return await self._tool_itself(call, context)
        model = registry.load(call.kind).config
        if issubclass(model, ToolConfig):
            # what the tool itself would refuse
            model.of(call)
        return outcome_of(call, answer)

    async def _tool_itself(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        tool = self._used.setdefault(call.kind, registry.load(call.kind))
        limit = asyncio.timeout(self._deadline - time.monotonic())
        try:
            async with limit:
                return await tool.run(call, context)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolFailure("test", "test.stopped", "the case was stopped") from None

    async def close(self) -> None:
        await asyncio.gather(*(tool.close() for tool in self._used.values()))
        self._used.clear()


def _waits_for_a_time(call: ToolCall) -> bool:
    """Nothing outside ends such a wait, and here it takes no time."""
    return call.kind == "wait" and ("until" in call.config or "for" in call.config)


def _advice(name: str, kind: str) -> str:
    if kind == "wait":
        return f"{name}: {{approved: true}}, or the data of its signal, or {name}: {{error: {{code: wait.timeout}}}}"
    answer = f"{name}: {{...}}"
    return f"{answer}, or {name}: {RUN} for the tool itself" if kind in HARMLESS else answer


# -- comparing


def _compare(
    file: CaseFile, case: BoundCase, plan: Plan, run: PlaybookRun, calls: Sequence[tuple[CallPlace, ToolCall]]
) -> Iterator[Mismatch]:
    expect, path = case.expect, (*case.path, "expect")

    def mismatch(what: str, expected: Any, actual: Any, *place: str | int) -> Mismatch:
        return Mismatch(what, file.line((*path, *place)), plain(expected), plain(actual))

    status = expect.status or ("failed" if expect.error is not None else "completed")
    if run.status != status:
        yield mismatch("status", status, f"{run.status}{_because(run)}", "status")
    began = [each.step for each in trace(logical_order(run.events)).runs.values() if not each.skipped]
    if expect.path is not None and expect.path != began:
        yield mismatch("path", expect.path, began, "path")
    if "result" in expect.model_fields_set and not is_same(expect.result, run.result):
        yield mismatch("result", expect.result, run.result, "result")
    for name, expected in (expect.error or {}).items():
        if run.error is not None and not is_same(expected, run.error.get(name)):
            yield mismatch(f"error.{name}", expected, run.error.get(name), "error", name)
    for expression, expected in expect.values.items():
        actual = run.values[expression]
        if isinstance(actual, TemplateError):
            yield mismatch(expression, expected, f"({actual.message})", "values", expression)
        elif not is_same(expected, actual):
            yield mismatch(expression, expected, actual, "values", expression)
    for name, expected in expect.calls.items():
        key, _ = task_named(plan, name)
        made = [call for place, call in calls if (place.step, place.task) == key]
        yield from _compare_calls(file, (*path, "calls", name), name, expected, made)
    if expect.waited is not None and round(expect.waited, 3) != round(run.waited, 3):
        yield mismatch("waited", expect.waited, round(run.waited, 3), "waited")


def _because(run: PlaybookRun) -> str:
    if run.error is None:
        return ""
    step = f" in step '{run.error['step']}'" if run.error.get("step") else ""
    return f"{step}: {run.error.get('code')}: {run.error.get('message')}"


def _compare_calls(
    file: CaseFile, path: Path, name: str, expected: int | dict[str, Any] | list[dict[str, Any]], made: list[ToolCall]
) -> Iterator[Mismatch]:
    listed = expected if isinstance(expected, list) else [expected] if isinstance(expected, dict) else None
    count = len(listed) if listed is not None else expected
    if len(made) != count:
        yield Mismatch(
            f"calls of {name}", file.line(path), counted(int(str(count)), "call"), counted(len(made), "call")
        )
        return
    for index, (fields, call) in enumerate(zip(listed or (), made, strict=False)):
        here: Path = (*path, index) if isinstance(expected, list) else path
        which = f"call {index + 1} of {name}" if len(made) > 1 else f"the call of {name}"
        for field, value in fields.items():
            actual = call.input if field == "input" else call.config.get(field)
            if not is_same(value, actual):
                yield Mismatch(f"{field} in {which}", file.line((*here, field)), plain(value), plain(actual))


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON: 1 and 1.0 are, 1 and true are not."""
    return canonical(one) == canonical(other)
