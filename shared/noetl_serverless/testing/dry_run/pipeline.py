"""Runs the tasks of a step by the worker's rules, with a tool that is never called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel

from ...playbook.numbers import seconds, whole
from ...playbook.plan import Accumulate, Assignment, Interface, Rule, Task
from ...playbook.reads import Reads
from ...playbook.scope import VARIABLES
from ...playbook.template import render_tree, truthy
from ...playbook.template_error import NeedsFetch
from ...protocol import ChildRequest, WaitRequest
from ...tools import registry
from ...tools.config import ToolConfig
from ...tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome
from ...worker.execution.backoff import backoff
from ...worker.execution.job import Job
from ...worker.execution.pipeline import Pipeline
from ...worker.execution.task_result import TaskResult
from ..answers import Answers, NoAnswer, outcome_of
from ..tools import place_of
from .decider import source_of
from .unknown import Unknown, has_unknown, render_known

# it does nothing, and always results in the same
_HARMLESS = "noop"
# of one run of a step, more are only counted
MAX_CALLS = 200
# of a retry
DEFAULT_ATTEMPTS = 3
# parts of the output of some tools, beside its data
_PARTS = ("http", "pg", "py")


@dataclass(frozen=True, slots=True)
class TaskRule:
    """A rule of a task, in the order of evaluation. `holds`: None if it reads what is unknown, which counts as one that
    does not hold."""

    when: str | None
    line: int | None
    do: str
    holds: bool | None


@dataclass(slots=True)
class DryCall:
    """A call of a tool that was not made. `answered`: its outcome was given. `waits`: seconds to the next attempt."""

    task: str
    kind: str
    attempt: int
    config: Mapping[str, Any]
    input: Mapping[str, Any]
    answered: bool = False
    waits: float | None = None
    rules: list[TaskRule] = field(default_factory=list)


class DryTool:
    """Every tool of a dry run: it answers what it was given for the call, otherwise with an unknown result. `calls`:
    where the first ones are added; `last`: the last one."""

    config: ClassVar[type[BaseModel]] = ToolConfig

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls: list[DryCall] = []
        self.more_calls = 0
        self.last: DryCall | None = None

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        place = place_of(call, context)
        noted = DryCall(task=call.name, kind=call.kind, attempt=context.attempt, config=call.config, input=call.input)
        self.last = noted
        if len(self.calls) < MAX_CALLS:
            self.calls.append(noted)
        else:
            self.more_calls += 1
        tool = registry.load(call.kind)
        if issubclass(tool.config, ToolConfig) and not has_unknown(call.config):
            # what the tool itself would refuse
            tool.config.of(call)
        if self.has_answer(place.step, call.name):
            noted.answered = True
            try:
                return outcome_of(call, self.answers.take(place, _title(place.step, call.name)))
            except NoAnswer as error:
                raise ToolFailure("dry_run", "dry_run.no_answer", str(error.args[0])) from None
        if call.kind == _HARMLESS:
            outcome = await tool.run(call, context)
            # its result may be given, with unknown parts
            outcome.stored = has_unknown(outcome.data)
            return outcome
        return ToolOutcome("ok", Unknown(f"the result of {_title(place.step, call.name)}"), stored=True)

    def has_answer(self, step: str, task: str) -> bool:
        return self.answers.has(step, task)

    async def close(self) -> None:
        return None


def _title(step: str, task: str) -> str:
    return f"step '{step}'" if task == step else f"task '{task}' of step '{step}'"


class DryPipeline(Pipeline):
    """`unknown`: keys of ctx that rules have set to what is unknown, with what it would be made from."""

    _render_tree = staticmethod(render_known)

    def __init__(self, job: Job, tool: DryTool) -> None:
        super().__init__(job)
        self.unknown: dict[str, str] = {}
        self._tool = tool

    async def _call(self, task: Task) -> dict[str, Any] | ChildRequest | WaitRequest:
        # of an unknown value it cannot be checked what is in it
        task = replace(task, expects=tuple(dict.fromkeys(name.split(".")[0] for name in task.expects)))
        if not self._tool.has_answer(self.job.step.name, task.name):
            task = replace(task, returns=(), max_bytes=None)
        output = await super()._call(task)
        if isinstance(output, dict) and isinstance(output["data"], Unknown):
            extra = {part: Unknown(f"{part} of {output['data'].source}") for part in _PARTS}
            return {**output, "extra": {**extra, **output["extra"]}}
        return output

    async def _check_input(self, task: Task, interface: Interface, given: Mapping[str, Any]) -> None:
        # of an unknown value it cannot be checked what is in it
        if not has_unknown(given):
            await super()._check_input(task, interface, given)

    async def _conforming(self, task: Task, interface: Interface, output: dict[str, Any]) -> dict[str, Any]:
        return output if has_unknown(output["data"]) else await super()._conforming(task, interface, output)

    async def _context(self, reads: Reads) -> dict[str, Any]:
        """No code runs that would read it."""
        return {}

    async def _accumulate(self, how: Accumulate, task: Task, output: dict[str, Any]) -> None:
        if has_unknown(output["data"]) or has_unknown(self.accumulated.values.get(how.name)):
            if how.on_error if output["status"] == "error" else how.on_success:
                self.accumulated.values[how.name] = Unknown(f"'{how.name}', collected by task '{task.name}'")
            return
        await super()._accumulate(how, task, output)

    @property
    def _stores_parts(self) -> bool:
        return False

    async def _match(self, task: Task, output: dict[str, Any]) -> Rule | None:
        for rule in task.rules:
            try:
                holds = rule.when is None or truthy(await self._render(rule.when.render, output))
            except NeedsFetch:
                self._note(task, rule, None)
                continue
            self._note(task, rule, holds)
            if holds:
                return rule
        return None

    def _note(self, task: Task, rule: Rule, holds: bool | None) -> None:
        call = self._tool.last
        # it is another one if the config could not be rendered
        if call is not None and call.task == task.name:
            source, line = (None, None) if rule.when is None else (rule.when.source, rule.when.line)
            call.rules.append(TaskRule(source, line, rule.do, holds))

    async def _retry(self, task: Task, rule: Rule, output: dict[str, Any]) -> TaskResult | None:
        delay = await self._number(rule.delay, seconds, output)
        longest = await self._number(rule.max_delay, seconds, output)
        wait = None if delay is None else backoff(rule.backoff, delay, self.attempt, longest=longest)
        end = await super()._retry(task, replace(rule, backoff="none", delay=0.0, max_delay=None), output)
        if end is None and self._tool.last is not None:
            self._tool.last.waits = wait
        return end

    async def _number(
        self,
        number: Any,
        read: Callable[[Any], Any],
        output: dict[str, Any] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Any:
        """What is unknown is taken to be the default."""
        try:
            return await super()._number(number, read, output, names)
        except NeedsFetch:
            return DEFAULT_ATTEMPTS if read is whole else None

    async def _assign(self, assignments: tuple[Assignment, ...], output: dict[str, Any]) -> None:
        known, unknown = [], []
        for item in assignments:
            try:
                await self._render(partial(render_tree, item.value), output)
                known.append(item)
            except NeedsFetch:
                unknown.append(item)
        await super()._assign(tuple(known), output)
        for item in known:
            self.unknown.pop(_set_name(item), None)
        for item in unknown:
            value = {item.key: Unknown(source_of(item))}
            if item.scope in ("ctx", VARIABLES):
                if item.scope == "ctx":
                    self.ctx = {**self.ctx, **value}
                else:
                    self.variables = {**self.variables, **value}
                self.set.pop(_set_name(item), None)
                self.unknown[_set_name(item)] = source_of(item)
            elif item.scope == "step":
                self.step = {**self.step, **value}
            elif self.iter is not None:
                self.iter = {**self.iter, **value}


def _set_name(item: Assignment) -> str:
    """Its name among what reports set; a name that none has for what stays in the pipeline."""
    return item.key if item.scope == "ctx" else f"{item.scope}.{item.key}"
