"""Plays one path through a playbook: the engine's decisions over the facts that its tools, which are not called, would
report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from ...commands.issued_command import LeaseTerms, command_of
from ...engine import events as e
from ...engine.decide import Decider, advance
from ...engine.events import Event
from ...engine.state import State, token_key
from ...engine.variables import PREFIX, place_of, split, with_values
from ...inspection.trace import StepRun, trace
from ...limits import DEFAULT_IN_FLIGHT
from ...playbook.plan import Loop, Plan, Step
from ...playbook.scope import VARIABLES
from ...playbook.sites import assigned, sites
from ...playbook.template import Template
from ...playbook.template_error import FetchFailed, NeedsFetch
from ...protocol import ClaimedCommand
from ...results.extract import NotSelected
from ...tools.port import Credential
from ...worker.execution.attempts import Attempts
from ...worker.execution.collection import as_items, render_collection
from ...worker.execution.job import Job
from ...worker.execution.lease import Lease
from ...worker.execution.output import output_of, selection_error
from ...worker.execution.rendering import ReferenceLoader
from ...worker.execution.stopwatch import Stopwatch
from ...worker.execution.task_result import TaskResult
from ...worker.execution.time_budget import TimeBudget
from ...worker.execution.toolbox import Toolbox
from ..answers import Answers
from .decider import Choices, Condition, DryDecider, with_unknown
from .pipeline import DryCall, DryPipeline, DryTool
from .recurrence import Begun, Recurrence
from .selected import StoredResults
from .unknown import KIND, Unknown, as_part, reference

EXECUTION: Final = "1"
# a path that has so many steps more than its playbook is not followed to its end
MAX_STEPS: Final = 2000
# of a loop whose tool has answers, this many items are run, of any other the first one
MAX_ITEMS: Final = 1000
# so short that the engine puts many items into one frame
_ITEM_MS: Final = 0.1


@dataclass(slots=True)
class DryStep:
    """One run of a step. `count`: the number of the loop's items, None if it is unknown. `calls`: those of the items
    that were run, without `more_calls`. `set`: what it and its arcs set, with what is set by its tasks. `arcs`: where
    it leads."""

    step: str
    generation: int
    calls: list[DryCall] = field(default_factory=list)
    more_calls: int = 0
    loop: Loop | None = None
    count: int | None = None
    conditions: list[Condition] = field(default_factory=list)
    set: Mapping[str, Any] = field(default_factory=dict)
    arcs: list[str] = field(default_factory=list)
    skipped: bool = False
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DryPath:
    """`steps` in the order in which they begin. `status`: completed, failed, endless if it repeats itself (then `error`
    says which steps), or running if it is too long."""

    steps: list[DryStep]
    status: str
    error: Mapping[str, Any] | None
    warnings: list[dict[str, Any]]

    @property
    def size(self) -> int:
        """Of its steps and calls together."""
        return sum(1 + len(step.calls) + step.more_calls for step in self.steps)

    @property
    def is_too_long(self) -> bool:
        """Whether it was not followed to its end, or ended because a step may begin no more."""
        return self.status == "running" or (self.error or {}).get("code") == "turns.exceeded"


def undecided(steps: Iterable[DryStep]) -> list[Condition]:
    """What a path with these steps is one path of several for, in their order."""
    return [condition for step in steps for condition in step.conditions if condition.undecided]


async def play(
    plan: Plan, workload: Mapping[str, Any], ctx: Mapping[str, Any], answers: Answers, choices: Choices
) -> DryPath:
    return await _Play(_any_width(plan), workload, answers, choices).play(ctx)


def _any_width(plan: Plan) -> Plan:
    """How many items run at once changes nothing here, and may be unknown."""
    steps = {
        name: replace(step, loop=replace(step.loop, max_in_flight=DEFAULT_IN_FLIGHT))
        if step.loop is not None and isinstance(step.loop.max_in_flight, Template)
        else step
        for name, step in plan.steps.items()
    }
    return replace(plan, steps=steps)


class _Play:
    def __init__(self, plan: Plan, workload: Mapping[str, Any], answers: Answers, choices: Choices) -> None:
        self.plan = plan
        self.state = State(EXECUTION, workload=workload)
        self.state.keep_variables(with_values({}, _set_by_users(plan), 0, "user_defined", None))
        self.answers = answers
        self.choices = choices
        self.tool = DryTool(answers)
        self.recurrence = Recurrence(answers, choices)
        self.log: list[Event] = []
        self.conditions: list[Condition] = []
        # by `step#generation`
        self.of_run: dict[str, list[Condition]] = {}
        self.uncounted: set[str] = set()
        # by `step#generation`
        self.runs: dict[str, DryStep] = {}
        self.opened: dict[str, Mapping[str, Any]] = {}
        # the collections that the engine leaves to a worker
        self.collections: dict[str, list[Any]] = {}
        self.stored = StoredResults()
        # by command
        self.issued: dict[str, Event] = {}
        self.toolbox = Toolbox(
            load_tool=lambda kind: self.tool,
            python=cast(Any, None),
            credential=_no_credential,
            stores=cast(Any, None),
            resolver=cast(Any, None),
            scratch=Path(),
        )

    async def play(self, ctx: Mapping[str, Any]) -> DryPath:
        started = {"path": self.plan.path, "entry": self.plan.entry, "depth": 0, "ctx": dict(ctx)}
        self._feed(Event(e.STARTED, 0, payload=started))
        repeated: tuple[Begun, Begun] | None = None
        while not self.state.ended and self.state.commands and len(self.runs) < MAX_STEPS + len(self.plan.steps):
            command_id = next(iter(self.state.commands))
            if self.state.commands[command_id].key not in self.runs:
                repeated = self.recurrence.of(self.state)
                if repeated is not None:
                    break
            await self._run(command_id)
        found = trace(self.log)
        for condition in self.conditions:
            self.of_run.setdefault(token_key(condition.step, condition.generation), []).append(condition)
        steps = [self._described(run) for run in found.runs.values()]
        if repeated is not None:
            keys = [token_key(run.step, run.generation) for run in found.runs.values()]
            return self._endless(steps, keys, *repeated)
        return DryPath(steps=steps, status=self.state.status, error=self.state.error, warnings=found.warnings)

    def _endless(self, steps: list[DryStep], keys: list[str], first_run: Begun, next_run: Begun) -> DryPath:
        """The path that ends where `first_run` would follow again, as `next_run`. `keys` are those of the steps."""
        end = keys.index(next_run.key)
        first, between = keys.index(first_run.key) + 1, range(first_run.count + 1, end + 1)
        steps, last = steps[:end], between[-1] if between else first
        what = "it is" if first == last else f"steps {first} to {last} are"
        back = "itself" if first == last else f"step {first}"
        message = (
            f"step {last} leads back to {back} and nothing has changed: {what} repeated until executor.spec.max_turns "
            f"({self.plan.max_turns:,}) ends the execution"
            + (", unless undecided conditions come out otherwise than here" if undecided(steps[first - 1 :]) else "")
        )
        error = {"kind": "routing", "code": "turns.exceeded", "message": message, "retryable": False}
        return DryPath(steps=steps, status="endless", error=error, warnings=[])

    def _feed(self, fact: Event) -> None:
        def decider(plan: Plan, state: State, fact: Event) -> Decider:
            return DryDecider(plan, state, fact, self.choices, self.conditions, self.uncounted)

        fact = fact.numbered(len(self.log) + 1)
        self.state, decisions = advance(self.plan, self.state, fact, decider)
        self.log.append(fact)
        for decision in decisions:
            self.log.append(decision.numbered(len(self.log) + 1))
            if decision.type == e.ISSUED:
                self.issued[decision.command_id or ""] = decision
            elif decision.type == e.LOOP_OPENED:
                self.opened[token_key(decision.step or "", decision.generation or 0)] = decision.payload

    def _described(self, run: StepRun) -> DryStep:
        key = token_key(run.step, run.generation)
        step = self.runs.get(key) or DryStep(run.step, run.generation, loop=self.plan.steps[run.step].loop)
        if run.loop is not None and key not in self.uncounted:
            step.count = run.loop["count"]
        route = run.route or {}
        refs = {name: self._value_of(ref) for name, ref in route.get(e.SET_REFS, {}).items()}
        step.set = {**step.set, **route.get("set", {}), **refs}
        step.arcs, step.skipped = run.arcs, run.skipped
        step.conditions = self.of_run.get(key, [])
        return step

    # -- commands

    async def _run(self, command_id: str) -> None:
        issued = self.issued.pop(command_id)
        assert issued.step is not None and issued.generation is not None
        step = self.plan.steps[issued.step]
        run = self.runs.setdefault(
            token_key(issued.step, issued.generation), DryStep(issued.step, issued.generation, loop=step.loop)
        )
        self.tool.calls, self.tool.more_calls = run.calls, run.more_calls
        match issued.payload["kind"]:
            case "open":
                await self._open(issued, step)
            case "frame":
                await self._frame(issued, step, run)
            case _:
                pipeline = DryPipeline(self._job(issued), self.tool)
                result = await pipeline.run()
                sets = _sets(result.set, pipeline.unknown)
                self._report(issued, run, *self._outcome(step, result), sets=sets)
        run.more_calls = self.tool.more_calls

    def _report(
        self,
        issued: Event,
        run: DryStep,
        payload: dict[str, Any],
        error: dict[str, Any] | None,
        sets: Mapping[str, Mapping[str, Any]],
        kind: str = e.CALL_DONE,
    ) -> None:
        run.set = {**run.set, **sets.get("set", {}), **sets.get(e.SET_REFS, {})}
        if error is not None:
            run.error = error
            payload = {**payload, "error": error}
            kind = e.CALL_ERROR if kind == e.CALL_DONE else kind
        self._feed(
            Event(
                kind,
                0,
                step=issued.step,
                generation=issued.generation,
                command_id=issued.command_id,
                payload={**payload, **sets},
            )
        )

    async def _open(self, issued: Event, step: Step) -> None:
        """A collection that is unknown, or too large for an event."""
        assert step.loop is not None
        key = token_key(step.name, issued.generation or 0)
        source, values = step.loop.items.source, _KnownValues(self.stored)
        result = await render_collection(self._job(issued, values=values), step.loop)
        if values.has_met_unknown:
            # one item stands for all
            self.uncounted.add(key)
            self.collections[key] = [Unknown(f"an item of {source}")]
            self._report(issued, self.runs[key], {"count": 1, "ref": reference(source)}, None, {})
            return
        if result.status == "ok":
            self.collections[key] = list(as_items(result.data) or [])
        payload = {"count": len(self.collections.get(key, ())), "ref": reference(source)}
        self._report(issued, self.runs[key], payload if result.error is None else {}, result.error, {})

    async def _frame(self, issued: Event, step: Step, run: DryStep) -> None:
        assert step.loop is not None
        key = token_key(step.name, run.generation)
        opened = self.opened[key]
        frame, start, end, _ = issued.payload["frame"]
        if step.loop.cursor is None:
            items = self.collections.get(key) or opened.get("data") or []
        elif frame == 0:
            # one row stands for all
            self.uncounted.add(key)
            items, end = [Unknown(f"a row of the cursor of '{step.name}'")], start + 1
        else:
            nothing = {"start": start, "end": start, "ok": 0, "failed": 0, "drained": True, "data": []}
            self._report(issued, run, nothing, None, {}, e.FRAME_COMMITTED)
            return
        answered = any(self.answers.has(step.name, task.name) for task in step.tasks)
        job = self._job(issued, opened["scope"])
        ctx, variables = dict(job.ctx), dict(job.variables)
        results: list[Any] = []
        values: dict[str, Any] = {}
        unknown: dict[str, str] = {}
        failure: dict[str, Any] | None = None
        failed = 0
        for index in range(start, end):
            if index and not (answered and index < MAX_ITEMS):
                results.append(Unknown(f"item {index} of the loop '{step.name}'"))
                continue
            item = self._of_item(job, step.loop, items[index], index, key, ctx, variables)
            pipeline = DryPipeline(item, self.tool)
            result = await pipeline.run()
            results.append(result.data if result.error is None else None)
            if not answered and (len(items) > 1 or key in self.uncounted):
                # what this item sets is set by others as well, differently
                pipeline.unknown.update({name: f"{place_of(name)}, set by an item" for name in result.set})
            values = {**values, **result.set}
            unknown = {**{name: at for name, at in unknown.items() if name not in result.set}, **pipeline.unknown}
            if step.loop.mode == "sequential":
                set_now = {**result.set, **{name: Unknown(source) for name, source in unknown.items()}}
                in_ctx, named = split(set_now)
                ctx, variables = {**ctx, **in_ctx}, {**variables, **named}
            if result.error is not None:
                failed += 1
                failure = failure or {**result.error, "index": index}
                if not step.loop.best_effort:
                    break
        done = start + len(results)
        payload = {"start": start, "end": done, "ok": len(results) - failed, "failed": failed, "item_ms": _ITEM_MS}
        part = as_part(results, f"results of the loop '{step.name}'")
        sets = _sets(values, unknown)
        self._report(issued, run, {**payload, **part}, failure, sets, e.FRAME_COMMITTED)

    def _outcome(self, step: Step, result: TaskResult) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The parts of a report that are the result's, and its error."""
        select = output_of(step).select
        try:
            if select and result.data is not None:
                part = {"ref": self.stored.put(self.plan, step.name, result.data, select)}
            else:
                part = as_part(result.data, f"the result of step '{step.name}'")
        except NotSelected as error:
            return {}, selection_error(step, error)
        return {**part, "meta": dict(result.meta), "extra": dict(result.extra)}, result.error

    def _value_of(self, ref: Mapping[str, Any]) -> Any:
        return self.stored.get(ref) if ref in self.stored else _unknown(ref)

    # -- what a worker is given

    def _command(self, issued: Event, scope: Mapping[str, Any] | None = None) -> ClaimedCommand:
        names = (EXECUTION, issued.command_id or "", issued.step or "", issued.generation or 0)
        more: dict[str, Any] = {} if scope is None else {"scope": {**scope, **issued.payload["scope"]}}
        terms = LeaseTerms(1, 1, "")
        return command_of(self.plan, self.plan.path, names, issued.payload, self.state.workload, terms, more)

    def _job(self, issued: Event, scope: Mapping[str, Any] | None = None, *, values: _KnownValues | None = None) -> Job:
        job = Job.of_command(
            self._command(issued, scope),
            self.plan,
            self.toolbox,
            lazy=values or _KnownValues(self.stored),
            budget=TimeBudget(1_000_000.0),
            attempts=Attempts(),
            stopwatch=Stopwatch(),
            lease=Lease(),
        )
        job.variables = with_unknown(job.variables)
        return job

    def _of_item(
        self,
        job: Job,
        loop: Loop,
        item: Any,
        index: int,
        key: str,
        ctx: Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> Job:
        count = self.opened[key]["count"]
        last: Any = index + 1 == count
        length: Any = count
        if key in self.uncounted:
            last, length = Unknown("whether it is the last item"), Unknown("the number of items")
        return job.of_item(loop, item, index, last=last, length=length, ctx=ctx, variables=variables)


class _KnownValues(ReferenceLoader):
    """Of what is by reference, only `stored` can be fetched; all else is unknown."""

    def __init__(self, stored: StoredResults) -> None:
        super().__init__(cast(Any, None))
        self.has_met_unknown = False
        self._stored = stored

    async def render(self, produce: Any) -> Any:
        try:
            return produce(self._stored.get)
        except NeedsFetch:
            self.has_met_unknown = True
            raise
        except FetchFailed as failed:
            self.has_met_unknown = True
            raise failed.cause from None


def _unknown(ref: Mapping[str, Any]) -> Unknown:
    """The value of a reference: one made here, or to the results of a loop."""
    uri = str(ref["ref"])
    return Unknown(uri.removeprefix(f"{KIND}:") if ref["kind"] == KIND else f"the results of {uri.split('/')[-2]}")


def _set_by_users(plan: Plan) -> dict[str, Any]:
    """The variables that templates name and nothing in the playbook sets: users may, and what they set is unknown."""
    read = {name for site in sites(plan) for it in site.templates for name in it.reads.get(VARIABLES) or ()}
    return {name: reference(f"vars.{name}") for name in sorted(read - assigned(plan, VARIABLES) - {"get"})}


def _sets(values: Mapping[str, Any], unknown: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """`set` and `set_refs` of a report, without those that are empty. A variable is never by reference."""
    known = {name: value for name, value in values.items() if name not in unknown}
    refs = {name: reference(source) for name, source in unknown.items()}
    known |= {name: ref for name, ref in refs.items() if name.startswith(PREFIX)}
    refs = {name: ref for name, ref in refs.items() if not name.startswith(PREFIX)}
    return {name: part for name, part in (("set", known), (e.SET_REFS, refs)) if part}


async def _no_credential(name: str) -> Credential:
    raise KeyError(name)
