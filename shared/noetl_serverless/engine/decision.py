"""A decision under way: the events that follow from one fact, and what deciding them needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ..playbook.plan import Assignment, Plan, Step
from ..playbook.scope import Scope, build_scope
from ..playbook.template import Template, TemplateError, render_tree
from ..playbook.values import InvalidValue
from ..playbook.views import EventName
from . import events as e
from .assigned import SetValues
from .budget import exceeded_budget
from .events import Event
from .evolve import apply, apply_route
from .ids import command_id
from .limiting import limits_of
from .limits import DecisionSize, check_scope
from .state import Before, State, Suspended, split_token_key
from .variables import PREFIX, split, values_of


class Decision(ABC):
    """Works on a state that it owns: each event is folded as it is made, so that the next one sees it."""

    def __init__(self, plan: Plan, state: State, fact: Event) -> None:
        self.plan = plan
        self.state = state
        self.fact = fact
        self.events: list[Event] = []
        self._routes: list[dict[str, Any]] = []
        # steps that can no longer be reached: a step that begins now sees them as skipped, although their events are
        # written after it, as in all existing logs
        self._unreachable: dict[str, dict[str, Any]] = {}
        # the actions still to be done, each with its arguments, the next one on top
        self._work: list[tuple[Any, ...]] = []
        self._failed = False
        # the run that has ended, and its output, until it is decided where that leads
        self.ended: tuple[Step, int, dict[str, Any]] | None = None
        self.size = DecisionSize()

    @abstractmethod
    def finish(self, step: Step, generation: int, output: dict[str, Any], event: str) -> None:
        """Decide what follows from a step's end. `output` is its outcome as templates see it: {"status", "meta",
        "data" | "ref", "error"?, ...}."""

    @abstractmethod
    def fail(self, error: dict[str, Any], step: str | None = None) -> None:
        """Let the execution fail; or, while what it has done is undone, what cannot go on of it."""

    @abstractmethod
    def ended_by_fact(self) -> tuple[Step, int, dict[str, Any]] | None:
        """The run that the fact has ended well, and its output, while it is not decided where that leads."""

    @abstractmethod
    def begin(self, step: Step) -> None:
        """Begin the next run of `step`."""

    @abstractmethod
    def run_pending(self) -> None:
        """Do what is still to be done."""

    # -- emitting

    def emit(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        step: str | None = None,
        generation: int | None = None,
        command: str | None = None,
    ) -> Event:
        """Add and fold a decision; it carries the routes that no event carries yet (they are folded already)."""

        def make_event(payload: dict[str, Any]) -> Event:
            return Event(
                kind,
                self.fact.at,
                cause=self.fact.seq,
                step=step,
                generation=generation,
                command_id=command,
                payload=payload,
            )

        decision = make_event(payload)
        apply(self.state, decision)
        if self._routes:
            decision = make_event({**payload, "routes": self._routes})
            self._routes = []
        self.size.add_event(step)
        self.events.append(decision)
        return decision

    def add_route(self, route: dict[str, Any]) -> None:
        """Fold a route; the next event carries it."""
        apply_route(self.state, route, self.fact.at)
        self._routes.append(route)

    def affords(self, step: str) -> bool:
        """Whether the budget has room for one more command; if not, the execution fails."""
        # what has been done is undone, whatever it costs
        reason = None if self.state.compensating is not None else exceeded_budget(self.state, step)
        if reason is not None:
            message = f"step '{step}' would exceed the budget: {reason}"
            self.fail({"kind": "budget", "code": "budget.exceeded", "message": message, "retryable": False}, step)
        return reason is None

    def issue(self, step: Step, generation: int, kind: str) -> None:
        scope = self.bounded_slice_of(step)
        if scope is None or not self.affords(step.name):
            return
        # a command that renders a loop's collection calls nothing
        limits = self.limits_of(step if kind == "step" else None, step.name)
        if limits is None:
            return
        self.emit(
            e.ISSUED,
            {"kind": kind, "attempt": 1, "scope": scope, **limits},
            step=step.name,
            generation=generation,
            command=command_id(step.name, generation, opening=kind == "open"),
        )

    def resume(self, suspended: Suspended, resume: dict[str, Any] | None, **source: str) -> None:
        """Issue a command that was suspended once more; `source`: the timer or the child that it waited for."""
        name, generation = split_token_key(suspended.key)
        if not self.affords(name):
            return
        attempt = suspended.attempt + 1
        frame = suspended.frame
        scope = {} if self._sees_ctx_of_opening(suspended) else self.bounded_slice_of(self.plan.steps[name])
        if scope is None:
            return
        limits = self.limits_of(self.plan.steps[name] if suspended.kind != "open" else None, name)
        if limits is None:
            return
        self.emit(
            e.ISSUED,
            {
                "kind": suspended.kind,
                "attempt": attempt,
                "scope": scope,
                **({"frame": list(frame)} if frame else {}),
                **({"resume": resume} if resume else {}),
                **limits,
                **source,
            },
            step=name,
            generation=generation,
            command=command_id(name, generation, frame[0] if frame else None, attempt),
        )

    def _sees_ctx_of_opening(self, suspended: Suspended) -> bool:
        """Whether a frame continues with what its loop was opened with, and what its own items have set. A worker of
        the previous release does not keep the latter."""
        keeps_set = suspended.frame is not None and e.OWN_SET in (suspended.resume or {})
        return keeps_set and self.state.tokens[suspended.key].phase == "sharing"

    def resumes(self) -> bool:
        """Whether the worker that gave its command back has more to do once that has ended which it waits for; if not,
        this is the end of the step."""
        step = self.plan.steps[self.fact.step or ""]
        return step.loop is not None or len(step.tasks) > 1 or bool(step.tasks[0].rules)

    def limits_of(self, step: Step | None, name: str) -> dict[str, Any] | None:
        """{"limits"} for the payload of a command of `step`, {} if nothing limits it; None if a key cannot be rendered
        and the execution has failed. `name`: of the step that it fails in."""
        if not self.plan.is_limited and (step is None or not step.is_limited):
            return {}
        try:
            limits = limits_of(self.plan, step, self.fact, self.scope())
        except (TemplateError, InvalidValue) as error:
            self.fail(error_of(error), name)
            return None
        return {e.LIMITS: limits} if limits else {}

    # -- scopes

    def scope(
        self,
        event: str | None = None,
        output: dict[str, Any] | None = None,
        assigned: SetValues | None = None,
    ) -> Scope:
        """`assigned`: what is set and not in the state yet."""
        state = self.state
        ctx, refs, set_now = state.ctx, state.ctx_refs, None
        if assigned:
            in_ctx, set_now = split(assigned.values)
            ctx, refs = SetValues(dict(in_ctx), assigned.refs).merged_into(ctx, refs)
        return build_scope(
            workload=state.workload,
            ctx=ctx,
            ctx_refs=refs,
            variables=self.variables(set_now or {}),
            steps=self._outcomes,
            loops=self.plan.loops,
            execution_id=state.execution_id,
            output=output,
            error=(output or {}).get("error"),
            loop=_ended_loop(event, output or {}),
            meter=self.size.meter,
            event={"name": EventName(event), "step": self.fact.step} if event else None,
        )

    def variables(self, set_now: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of variables by name. `set_now`: what is set and not in the state yet."""
        return {**values_of(self.state.variables), **set_now} if self.state.variables or set_now else {}

    @property
    def _outcomes(self) -> dict[str, Any]:
        if self.state.compensating is not None and self.state.compensable:
            # a compensation sees the run that it undoes
            undone = self.state.compensable[-1]
            return {**self.state.outcomes, undone.step: undone.outcome}
        return {**self._unreachable, **self.state.outcomes} if self._unreachable else self.state.outcomes

    def _assign(self, step: Step, assignments: tuple[Assignment, ...], scope: Any) -> SetValues:
        """A whole value that is by reference stays by reference: nothing is fetched here."""
        self.size.add_work(len(assignments), step.name)
        assigned = SetValues()
        for assignment in assignments:
            if assignment.scope == "vars":
                # of a variable, readers over REST see the value
                assigned.update(SetValues({f"{PREFIX}{assignment.key}": render_tree(assignment.value, scope)}))
                continue
            ref = assignment.value.reference(scope) if isinstance(assignment.value, Template) else None
            if ref is None:
                assigned.update(SetValues({assignment.key: render_tree(assignment.value, scope)}))
            else:
                assigned.update(SetValues(refs={assignment.key: dict(ref)}))
        return assigned

    def bounded_slice_of(self, step: Step, before: Before | None = None) -> dict[str, Any] | None:
        """`slice_of`, counted in the decision's size; None if it is too large and the execution has failed."""
        found = self.checked_slice_of(step, before)
        if found is None:
            return None
        scope, size = found
        self.size.add_bytes(size, step.name)
        return scope

    def checked_slice_of(self, step: Step, before: Before | None = None) -> tuple[dict[str, Any], int] | None:
        """`slice_of` and its bytes; None if it is too large and the execution has failed."""
        scope = self.slice_of(step, before)
        try:
            return scope, check_scope(scope)
        except InvalidValue as error:
            self.fail(error_of(error), step.name)
            return None

    def slice_of(self, step: Step, before: Before | None = None) -> dict[str, Any]:
        """The part of ctx and of earlier outcomes that the step's templates name; of the names in `before`, what they
        were then."""
        keys = step.reads.get("ctx", frozenset())
        ctx, refs, outcomes = self.state.ctx, self.state.ctx_refs, self._outcomes
        if before:
            ctx, refs = _as_before("value", ctx, before), _as_before("ref", refs, before)
        # sorted, because the order of a set differs between processes
        values = dict(ctx) if keys is None else {key: ctx[key] for key in sorted(keys) if key in ctx}
        scope = {"ctx": values, "steps": {name: outcomes[name] for name in sorted(step.reads) if name in outcomes}}
        if ctx_refs := dict(refs) if keys is None else {key: refs[key] for key in sorted(keys) if key in refs}:
            scope[e.CTX_REFS] = ctx_refs
        if "vars" in step.reads and (variables := self._variables_of(step)):
            scope["vars"] = variables
        return scope

    def _variables_of(self, step: Step) -> dict[str, Any]:
        names, variables = step.reads["vars"], values_of(self.state.variables)
        return variables if names is None else {name: variables[name] for name in sorted(names) if name in variables}


def _as_before(kind: str, now: Mapping[str, Any], before: Before) -> dict[str, Any]:
    earlier = {name: known[kind] for name, known in before.items() if kind in known}
    return {name: value for name, value in now.items() if name not in before} | earlier


def _ended_loop(event: str | None, output: dict[str, Any]) -> dict[str, Any] | None:
    """`loop` as the loop's own arcs and `set` see it; its items see their place in it."""
    if event is None or not event.startswith("loop."):
        return None
    found = output.get("data") or output.get("ref", {}).get("extracted") or {}
    return {"done": True, "length": found.get("stats", {}).get("total", 0)}


def error_of(error: TemplateError | InvalidValue, output: dict[str, Any] | None = None) -> dict[str, Any]:
    """`error` as the error of an execution. If the step had failed by itself, its own error comes first."""
    error_fields = (
        error.to_dict()
        if isinstance(error, TemplateError)
        else {"kind": "value", "code": "value.invalid", "message": str(error), "retryable": False}
    )
    step_error = (output or {}).get("error")
    return error_fields if step_error is None else {**step_error, "routing": error_fields}
