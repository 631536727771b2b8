"""Runs the tasks of every step: a step with a single tool is a pipeline of one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ...engine import events as e
from ...engine.variables import PREFIX
from ...error_codes import REFERENCE_NOT_AVAILABLE
from ...errors import InvalidRequest, Problem
from ...limits import INLINE_BYTES, SET_STORED_BYTES, VARIABLE_BYTES
from ...playbook.numbers import seconds, timeout, whole
from ...playbook.plan import Accumulate, Assignment, Interface, Rule, Task
from ...playbook.python_names import EVERYTHING, SCOPES_OF_CONTEXT
from ...playbook.reads import Reads
from ...playbook.scope import VARIABLES, Scope, build_scope, read_names
from ...playbook.template import Template, Tree, render_tree, truthy
from ...playbook.template_error import TemplateError
from ...playbook.values import InvalidValue
from ...playbook.views import Fetch, View
from ...protocol import ChildRequest, WaitRequest
from ...results.offload import Output
from ...tools.port import ToolFailure
from .accumulation import Accumulation
from .attempts import Attempt
from .backoff import backoff
from .domain import TooLarge, check_size, inline_rows, size_of, to_domain, value_error
from .envelope import child_output, envelope
from .errors import clean, from_problem, from_template, step_error
from .interface import check_input, check_output, input_of, names_of
from .job import Job
from .set_values import check_sizes
from .store_result import store_result
from .task_call import call_task
from .task_result import TaskResult

MAX_VISITS = 100_000
# for a longer wait the command is suspended, which frees the worker
MAX_SLEEP_SECONDS = 5.0
# a control plane of the previous release cannot wait; meanwhile a newer one may answer
OLDER_CONTROL_PLANE_SECONDS = 10.0
# up to this size, what a suspended pipeline remembers stays in the event
INLINE_LOCALS_BYTES = 8 * 1024
LOCALS_NAME = "the state to keep while the task waits"
SCOPES = ("ctx", "vars", "iter", "step")

N = TypeVar("N", int, float)


class Pipeline:
    """One run through the tasks of a step. `results` holds the result of each task, by its name."""

    # of a step's input and of a task's config
    _render_tree = staticmethod(render_tree)

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tasks = job.step.tasks
        self.ctx = dict(job.ctx)
        self.variables = dict(job.variables)
        # of a step without a loop: what its rules have set, if there is anything that they may set
        self.iter: dict[str, Any] | None = {} if job.step.sets_iter else None
        if job.iter is not None:
            self.iter = dict(job.iter)
        self.step: dict[str, Any] = {}
        # what rules have set in ctx and as variables, as events have it, and the size of each value in bytes of JSON
        self.set: dict[str, Any] = {}
        self._set_sizes: dict[str, int] = {}
        self.results: dict[str, Any] = {}
        self.accumulated = Accumulation(job, in_parts=self._stores_parts)
        self.previous: Any = None
        self.input: dict[str, Any] = {}
        self.position = 0
        self.attempt = 1
        # how often the pipeline moved to another task: a second visit to a task is a new call, a retry is not
        self.visits = 0
        # the call that is under way, or whose output the rules are handling
        self._call_begun: Attempt | None = None
        self._progressed = False

    async def run(self) -> TaskResult:
        resume = self.job.resume
        try:
            if resume and "task" in resume:
                await self._restore(resume)
            else:
                self.input = await self._render_input()
            child = (resume or {}).get("child")
            while True:
                task = self.tasks[self.position]
                if (
                    child is None
                    and self._progressed
                    and (self.job.budget.is_closing or self.accumulated.must_be_reported)
                ):
                    return await self._suspend(TaskResult("deferred", delay=0.0))
                if child is None:
                    self._begin(task)
                    output = await self._call(task)
                    if task.interface is not None and isinstance(output, dict) and output["status"] == "ok":
                        output = await self._conforming(task, task.interface, output)
                    if self.job.secrets.any_used and isinstance(output, dict):
                        output = await self.job.secrets.masked(output)
                else:
                    output = child_output(child, self.attempt, task.place.line)
                child = None
                self._progressed = True
                if isinstance(output, ChildRequest):
                    return await self._suspend(TaskResult("parked", child=output))
                if isinstance(output, WaitRequest):
                    if not self.job.toolbox.supports(3):
                        return await self._suspend(TaskResult("deferred", delay=OLDER_CONTROL_PLANE_SECONDS))
                    return await self._suspend(TaskResult("parked", wait=output))
                if (end := await self._follow(task, output)) is not None:
                    return end
        except (TemplateError, InvalidValue, TooLarge) as error:
            task = self.tasks[self.position]
            return self._failed(task, self._error_of(error, task))
        except Problem as problem:
            kind = "reference" if problem.code == REFERENCE_NOT_AVAILABLE else "result"
            return self._failed(self.tasks[self.position], from_problem(problem, kind))

    def _error_of(self, error: TemplateError | InvalidValue | TooLarge, task: Task) -> dict[str, Any]:
        if isinstance(error, TemplateError):
            return from_template(error, self.job.plan, task.place.line)
        return value_error(error, step=self.job.step.name, task=task.name)

    # -- calling

    def _begin(self, task: Task, started_at: int | None = None) -> None:
        index = self.job.loop["index"] if self.job.loop is not None else None
        self._call_begun = self.job.attempts.begin(self.attempt, task.name, index, started_at)

    def _call_ended(self, error: Mapping[str, Any] | None = None) -> None:
        """`error`: what it failed with."""
        if self._call_begun is None:
            return
        if error is None:
            self.job.attempts.end(self._call_begun)
        else:
            self.job.attempts.fail(self._call_begun, error)
        self._call_begun = None

    async def _call(self, task: Task) -> dict[str, Any] | ChildRequest | WaitRequest:
        """The task's envelope, or what it waits for."""
        step = self.job.step
        step_input, keychain, names, limit, reads = self.input, None, None, task.timeout, None
        try:
            if task.secrets or step.secrets:
                keychain = await self.job.secrets.views(task.secrets | step.secrets)
                if step.secret_input:
                    step_input = {**step_input, **await self._rendered({**step.secret_input}, keychain)}
            if task.interface is not None:
                config = await self._of_interface(task, task.interface, step_input, keychain)
                names, step_input = {**step_input, **config["input"]}, {}
            elif task.reads_input:
                config, names = await self._with_input(task, step_input, keychain)
            else:
                config = dict(await self._rendered(task.config, keychain) or {})
            if limit is not None:
                limit = await self._number(limit, timeout, names=names)
            if task.context is not None:
                reads = await self._context(task.context)
        except TemplateError as error:
            return envelope("error", self.attempt, error=self._error_of(error, task))
        except ToolFailure as failure:
            return envelope("error", self.attempt, error={**clean(failure.error), "at": task.place.line})
        except Problem as problem:
            return envelope("error", self.attempt, error={**from_problem(problem, "reference"), "at": task.place.line})
        inline_bytes = task.output.get("inline_max_bytes", INLINE_BYTES) if task.output else INLINE_BYTES
        if self.accumulated.joins_tables(task.accumulate):
            inline_bytes = 0
        context = self.job.context_of(self._call_name(task), task.kind, self.attempt, inline_bytes)
        return await call_task(self.job, task, config, context, step_input=step_input, timeout=limit, reads=reads)

    async def _with_input(
        self, task: Task, step_input: dict[str, Any], keychain: Mapping[str, View] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration, with the task's own input as `input`; and what its templates read by name: both inputs."""
        assert isinstance(task.config, dict)
        config = {**task.config}
        own = await self._rendered(config.pop("input", {}), keychain, step_input)
        names = {**step_input, **own}
        return {**await self._rendered(config, keychain, names), "input": own}, names

    async def _of_interface(
        self, task: Task, interface: Interface, step_input: dict[str, Any], keychain: Mapping[str, View] | None
    ) -> dict[str, Any]:
        """The configuration of a tool of the catalog, which reads its input alone. Raises ToolFailure for an input that
        its schema does not allow."""
        assert isinstance(task.config, dict)
        config = {**task.config}
        own = await self._rendered(config.pop("input", {}), keychain, step_input)
        given = input_of(interface, step_input, own)
        await self._check_input(task, interface, given)
        names = names_of(interface, given)
        return {**await self._rendered(config, keychain, names), "input": names}

    async def _check_input(self, task: Task, interface: Interface, given: Mapping[str, Any]) -> None:
        await check_input(interface, task.kind, given)

    async def _conforming(self, task: Task, interface: Interface, output: dict[str, Any]) -> dict[str, Any]:
        """The output, as an error if the schema of the tool does not allow its data."""
        try:
            await check_output(interface, task.kind, output["data"])
        except ToolFailure as failure:
            return {**output, "status": "error", "error": {**clean(failure.error), "at": task.place.line}}
        return output

    async def _rendered(
        self, tree: Tree, keychain: Mapping[str, View] | None = None, names: Mapping[str, Any] | None = None
    ) -> Any:
        return await self._render(partial(self._render_tree, tree), keychain=keychain, names=names)

    async def _context(self, reads: Reads) -> dict[str, Any]:
        """What a task's code reads of the execution."""
        if EVERYTHING in reads:
            variables = [VARIABLES] if self.variables else []
            steps = self.job.command.scope.get("steps") or {}
            reads = dict.fromkeys([*SCOPES_OF_CONTEXT, *variables, *steps, *self.results])
        found: dict[str, Any] = await self._render(partial(read_names, reads))
        return found

    def _call_name(self, task: Task) -> str:
        """The same for every attempt at, and every delivery of, the same call."""
        command = self.job.command
        item = f"/{self.job.iter['_index']}" if self.job.iter is not None else ""
        return f"{command.step}/{command.generation}{item}/{task.name}/{self.visits}"

    # -- following the rules

    async def _follow(self, task: Task, output: dict[str, Any]) -> TaskResult | None:
        """Apply the task's rules to its output; None: continue with the task at `position`."""
        if self.job.step.is_pipeline:
            data = output["data"] if output["ref"] is None else await self.job.lazy.load(output["ref"])
            # replaced, not modified: a template may have returned the dict itself
            self.results = {**self.results, task.name: data}
        if not task.rules and task.accumulate is None:
            return self._by_default(task, output)
        try:
            return await self._by_rules(task, output)
        except (TemplateError, InvalidValue, TooLarge) as error:
            if output["error"] is None:
                raise
            # what the call failed with comes first
            routing = self._error_of(error, task)
            return self._failed(task, {**output["error"], "routing": routing}, output)

    async def _by_rules(self, task: Task, output: dict[str, Any]) -> TaskResult | None:
        if task.accumulate is not None:
            await self._accumulate(task.accumulate, task, output)
        rule = await self._match(task, output)
        if rule is None:
            return self._by_default(task, output)
        if rule.set:
            await self._assign(rule.set, output)
        match rule.do:
            case "retry":
                return await self._retry(task, rule, output)
            case "jump":
                return self._jump(task, rule, output)
            case "break":
                return self._ended(output, "break")
            case "fail":
                return self._failed(task, output["error"] or _failed_by_rule(task), output)
            case _:
                return self._continue(output)

    def _by_default(self, task: Task, output: dict[str, Any]) -> TaskResult | None:
        if output["status"] == "error":
            return self._failed(task, output["error"], output)
        return self._continue(output)

    async def _accumulate(self, how: Accumulate, task: Task, output: dict[str, Any]) -> None:
        if how.on_error if output["status"] == "error" else how.on_success:
            data = output["data"] if output["ref"] is None else await self.job.lazy.load(output["ref"])
            await self.accumulated.add(how, data)

    @property
    def _stores_parts(self) -> bool:
        # a control plane of the previous release would not know which objects belong to a result
        return self.job.toolbox.supports(3)

    async def _match(self, task: Task, output: dict[str, Any]) -> Rule | None:
        for rule in task.rules:
            when = rule.when
            if when is None or truthy(await self._render(when.render, output)):
                return rule
        return None

    def _continue(self, output: dict[str, Any]) -> TaskResult | None:
        if self.position + 1 == len(self.tasks):
            return self._ended(output, "ok")
        self._move_to(self.position + 1, output)
        return None

    async def _retry(self, task: Task, rule: Rule, output: dict[str, Any]) -> TaskResult | None:
        attempts = await self._number(rule.attempts, whole, output)
        if self.attempt >= attempts:
            error = output["error"] or step_error(
                "rule", "rule.retry_exhausted", f"task '{task.name}' was tried {self.attempt} times"
            )
            return self._failed(task, {**error, "attempts": self.attempt}, output)
        longest = await self._number(rule.max_delay, seconds, output)
        delay = backoff(rule.backoff, await self._number(rule.delay, seconds, output), self.attempt, longest=longest)
        self._call_ended(output["error"])
        self.attempt += 1
        # where calls are counted by commands, each attempt is one
        is_counted = self.job.step.rate is not None
        if is_counted or delay > MAX_SLEEP_SECONDS or delay >= self.job.budget.until_closing():
            return await self._suspend(TaskResult("deferred", delay=delay))
        if delay:
            with self.job.stopwatch.paused():
                await asyncio.sleep(delay)
        return None

    def _jump(self, task: Task, rule: Rule, output: dict[str, Any]) -> TaskResult | None:
        target = self._target(rule)
        if target is None:
            error = step_error("rule", "rule.no_target", f"jump from '{task.name}': no task '{rule.to}'")
            return self._failed(task, error, output)
        if self.visits >= MAX_VISITS:
            message = f"more than {MAX_VISITS} tasks were run; check the rules for an endless cycle of jumps"
            return self._failed(task, step_error("rule", "rule.endless", message), output)
        self._call_ended(output["error"])
        self._move_to(target, output)
        return None

    def _target(self, rule: Rule) -> int | None:
        return next((index for index, task in enumerate(self.tasks) if task.name == rule.to), None)

    def _move_to(self, position: int, output: dict[str, Any]) -> None:
        self._call_ended()
        self.previous = self.results.get(self.tasks[self.position].name, output["data"])
        self.position = position
        self.attempt = 1
        self.visits += 1

    async def _assign(self, assignments: tuple[Assignment, ...], output: dict[str, Any]) -> None:
        """All values are rendered before any takes effect."""
        values = await self._render(
            lambda scope: [(item.scope, item.key, render_tree(item.value, scope)) for item in assignments], output
        )
        # a value that is no template has not been checked yet
        values = [
            (where, key, inline_rows(await to_domain(value, f"set.{where}.{key}"))) for where, key, value in values
        ]
        for where, key, value in values:
            if where == VARIABLES:
                check_size(value, f"set.{where}.{key}", VARIABLE_BYTES)
            elif where != "ctx":
                # it goes into no event, and is stored with the position of a suspended pipeline
                check_size(value, f"set.{where}.{key}", SET_STORED_BYTES)
        # replaced, not modified: a template may have returned a scope itself
        new = {scope: {key: value for where, key, value in values if where == scope} for scope in SCOPES}
        reported = {**new["ctx"], **{f"{PREFIX}{key}": value for key, value in new[VARIABLES].items()}}
        sizes = {**self._set_sizes, **{key: size_of(value) for key, value in reported.items()}}
        check_sizes(sizes, by_reference=self.job.toolbox.supports(2))
        self._set_sizes = sizes
        self.ctx = {**self.ctx, **new["ctx"]}
        self.variables = {**self.variables, **new[VARIABLES]}
        self.set = {**self.set, **reported}
        self.step = {**self.step, **new["step"]}
        if self.iter is not None:
            self.iter = {**self.iter, **new["iter"]}

    # -- ending

    def _ended(self, output: dict[str, Any], status: str) -> TaskResult:
        self._call_ended()
        end = TaskResult("ok", set=self.set, extra=output["extra"], meta=output["meta"])
        if self.job.step.is_pipeline:
            end.data = self._summary(output, status)
        else:
            end.data, end.ref = output["data"], output["ref"]
            if self.accumulated:
                fields = end.data if isinstance(end.data, Mapping) else {"data": end.data}
                end.data, end.ref = {**fields, **self.accumulated.values}, None
        end.collected = self.accumulated.parts
        return end

    def _summary(self, output: dict[str, Any], status: str) -> dict[str, Any]:
        """The fields of the last task's result, and in addition the results of all tasks."""
        last = self.results.get(self.tasks[self.position].name, output["data"])
        data = dict(last) if isinstance(last, Mapping) else {"_prev": last}
        return {**data, **self.accumulated.values, "results": self.results, "status": status}

    def _failed(self, task: Task, error: dict[str, Any], output: dict[str, Any] | None = None) -> TaskResult:
        error = {"at": task.place.line, **error}
        self._call_ended(error)
        output = output or {"data": None, "ref": None, "extra": {}, "meta": {"attempt": self.attempt}}
        end = TaskResult("error", error=error, set=self.set, extra=output["extra"], meta=output["meta"])
        if self.job.step.is_pipeline:
            error["failed_task"] = task.name
            end.data = {
                **self.accumulated.values,
                "results": self.results,
                "status": "failed",
                "failed_task": task.name,
            }
            end.collected = self.accumulated.parts
        else:
            end.data, end.ref = output["data"], output["ref"]
        return end

    # -- suspending

    async def _suspend(self, end: TaskResult) -> TaskResult:
        suspended_locals = {
            "input": self.input,
            "results": self.results,
            "previous": self.previous,
            "step": self.step,
            "iter": self._iter_set(),
        }
        if self.accumulated:
            suspended_locals["accumulated"] = await self.accumulated.state()
        if self._call_begun is not None:
            # the call of a sub-playbook, which continues
            suspended_locals["begun"] = self._call_begun.started_at
            self._call_ended()
        if self.job.loop is None and (failed := self.job.attempts.suspended_attempts()):
            suspended_locals["attempts"] = failed
        packed = await store_result(
            suspended_locals,
            self.job.command,
            self.job.toolbox,
            part="/locals",
            output=Output(inline_bytes=INLINE_LOCALS_BYTES),
            label=LOCALS_NAME,
        )
        if self.job.loop is None:
            end.parts = self.accumulated.reported()
        end.set = self.set
        end.resume = {
            "task": self.tasks[self.position].name,
            "attempt": self.attempt,
            "visits": self.visits,
            "locals": packed,
        }
        return end

    async def _restore(self, resume: Mapping[str, Any]) -> None:
        packed = resume["locals"]
        suspended_locals = packed["data"] if "data" in packed else await self.job.lazy.load(packed["ref"])
        names = [task.name for task in self.tasks]
        self.position = names.index(resume["task"])
        self.attempt = resume["attempt"]
        self.visits = resume["visits"]
        self.input = suspended_locals["input"]
        self.results = dict(suspended_locals["results"])
        self.previous = suspended_locals["previous"]
        self.step = dict(suspended_locals["step"])
        self.accumulated.restore(suspended_locals.get("accumulated", {}))
        if self.iter is not None:
            self.iter.update(suspended_locals["iter"])
        if self.job.loop is None:
            self.job.attempts.resume(suspended_locals.get("attempts") or {})
        if "child" in resume:
            self._begin(self.tasks[self.position], suspended_locals.get("begun"))

    def _iter_set(self) -> dict[str, Any]:
        """What rules have set in `iter`, as opposed to what it began with."""
        begun = self.job.iter or {}
        return {key: value for key, value in (self.iter or {}).items() if key not in begun or begun[key] is not value}

    # -- rendering

    async def _render_input(self) -> dict[str, Any]:
        template = self.job.step.input
        if template is None:
            return {}
        given = await self._rendered(template)
        if given is not None and not isinstance(given, Mapping):
            raise InvalidRequest(f"the input of step '{self.job.step.name}' must give an object")
        return dict(given or {})

    async def _render(
        self,
        produce: Callable[[Scope], Any],
        output: dict[str, Any] | None = None,
        keychain: Mapping[str, View] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Any:
        return await self.job.lazy.render(lambda fetch: produce(self._scope(fetch, output, keychain, names)))

    async def _number(
        self,
        number: N | Template | None,
        read: Callable[[Any], N],
        output: dict[str, Any] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Any:
        """The number, or what the template gives in its place; raises TemplateError for anything else."""
        if not isinstance(number, Template):
            return number
        value = await self._render(number.render, output, names=names)
        try:
            return read(value)
        except ValueError as error:
            raise number.refusal(str(error)) from None

    def _scope(
        self,
        fetch: Fetch,
        output: dict[str, Any] | None,
        keychain: Mapping[str, View] | None,
        names: Mapping[str, Any] | None,
    ) -> Scope:
        command, loop = self.job.command, self.job.loop
        extra = {**self.accumulated.views(fetch), **self.results}
        if loop is not None:
            extra = {"loop_index": loop["index"], "loop_event_id": self.job.loop_id, **extra}
        return build_scope(
            workload=command.workload,
            ctx=self.ctx,
            # except for what has been set since
            ctx_refs=command.scope.get(e.CTX_REFS),
            variables=self.variables,
            steps=command.scope.get("steps") or {},
            loops=self.job.loops,
            execution_id=command.execution_id,
            fetch=fetch,
            iter=self.iter,
            loop=loop,
            output=output,
            keychain=keychain,
            input=names,
            task={
                "results": self.results,
                "step": self.step,
                "_prev": self.previous,
                "_task": self.tasks[self.position].name,
                "_attempt": self.attempt,
            },
            extra=extra,
        )


def _failed_by_rule(task: Task) -> dict[str, Any]:
    return step_error("rule", "rule.fail", f"a rule of task '{task.name}' failed it")
