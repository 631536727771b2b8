"""A decision under way: the events that follow from one fact, and what deciding them needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..playbook.plan import Assignment, Plan, Step
from ..playbook.scope import Scope, build_scope
from ..playbook.template import Template, TemplateError, render_tree
from ..playbook.values import InvalidValue
from ..playbook.views import EventName
from . import events as e
from .assigned import SetValues
from .budget import exceeded_budget
from .error import bounded
from .events import Event
from .evolve import apply
from .ids import command_id
from .limiting import limits_of
from .limits import DecisionSize, check_scope
from .state import State


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
        self.size = DecisionSize()

    @abstractmethod
    def finish(self, step: Step, generation: int, output: dict[str, Any], event: str) -> None:
        """Decide what follows from a step's end. `output` is its outcome as templates see it: {"status", "meta",
        "data" | "ref", "error"?, ...}."""

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

    def fail(self, error: dict[str, Any], step: str | None = None) -> None:
        if not self._failed:
            self._failed = True
            error_fields = bounded(error)
            self.emit(e.FAILED, {"error": {**error_fields, "step": step} if step else error_fields}, step=step)

    def affords(self, step: str) -> bool:
        """Whether the budget has room for one more command; if not, the execution fails."""
        reason = exceeded_budget(self.state, step)
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
        ctx, refs = assigned.merged_into(state.ctx, state.ctx_refs) if assigned else (state.ctx, state.ctx_refs)
        return build_scope(
            workload=state.workload,
            ctx=ctx,
            ctx_refs=refs,
            steps=self._outcomes,
            loops=self.plan.loops,
            execution_id=state.execution_id,
            output=output,
            error=(output or {}).get("error"),
            loop=_ended_loop(event, output or {}),
            meter=self.size.meter,
            event={"name": EventName(event), "step": self.fact.step} if event else None,
        )

    @property
    def _outcomes(self) -> dict[str, Any]:
        return {**self._unreachable, **self.state.outcomes} if self._unreachable else self.state.outcomes

    def _assign(self, step: Step, assignments: tuple[Assignment, ...], scope: Any) -> SetValues:
        """A whole value that is by reference stays by reference: nothing is fetched here."""
        self.size.add_work(len(assignments), step.name)
        assigned = SetValues()
        for assignment in assignments:
            ref = assignment.value.reference(scope) if isinstance(assignment.value, Template) else None
            if ref is None:
                assigned.update(SetValues({assignment.key: render_tree(assignment.value, scope)}))
            else:
                assigned.update(SetValues(refs={assignment.key: dict(ref)}))
        return assigned

    def bounded_slice_of(self, step: Step) -> dict[str, Any] | None:
        """`slice_of`, counted in the decision's size; None if it is too large and the execution has failed."""
        found = self.checked_slice_of(step)
        if found is None:
            return None
        scope, size = found
        self.size.add_bytes(size, step.name)
        return scope

    def checked_slice_of(self, step: Step) -> tuple[dict[str, Any], int] | None:
        """`slice_of` and its bytes; None if it is too large and the execution has failed."""
        scope = self.slice_of(step)
        try:
            return scope, check_scope(scope)
        except InvalidValue as error:
            self.fail(error_of(error), step.name)
            return None

    def slice_of(self, step: Step) -> dict[str, Any]:
        """The part of ctx and of earlier outcomes that the step's templates name."""
        keys = step.reads.get("ctx", frozenset())
        ctx, refs, outcomes = self.state.ctx, self.state.ctx_refs, self._outcomes
        # sorted, because the order of a set differs between processes
        values = dict(ctx) if keys is None else {key: ctx[key] for key in sorted(keys) if key in ctx}
        scope = {"ctx": values, "steps": {name: outcomes[name] for name in sorted(step.reads) if name in outcomes}}
        if ctx_refs := dict(refs) if keys is None else {key: refs[key] for key in sorted(keys) if key in refs}:
            scope[e.CTX_REFS] = ctx_refs
        return scope


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
