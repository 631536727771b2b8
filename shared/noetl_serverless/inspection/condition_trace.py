"""Repeats the decisions of a log and records every evaluated condition, with the values that it read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine import events as e
from ..engine.canonical import canonical
from ..engine.decide import Decider, advance
from ..engine.events import Event
from ..engine.replay import logical_order
from ..engine.state import State
from ..engine.upcast import UPCASTERS
from ..playbook.paths import path_templates
from ..playbook.plan import AdmitRule, Arc, Plan, Step
from ..playbook.scope import Scope
from ..playbook.template import Template, TemplateError

MAX_CHARACTERS = 300


@dataclass(kw_only=True, frozen=True, slots=True)
class EvaluatedCondition:
    """One condition. `index` is its place among the arcs, or the admission rules, of the step; `values` by path."""

    # of the fact that was decided
    seq: int
    step: str
    about: str
    index: int
    target: str | None
    when: str | None
    line: int | None
    # None: it could not be evaluated, see `error`
    holds: bool | None
    values: dict[str, Any]
    error: str | None = None

    def document(self) -> dict[str, Any]:
        names = ("about", "index", "target", "when", "line", "holds", "values", "error")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def trace_conditions(
    execution_id: str, events: Iterable[Event], plan: Plan, workload: Mapping[str, Any] | None = None
) -> list[EvaluatedCondition]:
    """Every condition, in the order of evaluation."""
    evaluated: list[EvaluatedCondition] = []

    def decider(plan: Plan, state: State, fact: Event) -> Decider:
        return _Tracer(plan, state, fact, evaluated)

    state = State(execution_id, workload=workload or {})
    for event in logical_order(events):
        if event.type in e.FACTS:
            state, _ = advance(plan, state, UPCASTERS.current(event), decider)
    return evaluated


class _Tracer(Decider):
    def __init__(self, plan: Plan, state: State, fact: Event, evaluated: list[EvaluatedCondition]) -> None:
        super().__init__(plan, state, fact)
        self._evaluated = evaluated

    def _holds(self, step: Step, conditional: Arc | AdmitRule, scope: Callable[[], Scope]) -> bool:
        values = {} if conditional.when is None else values_read(conditional.when, scope())
        try:
            holds = super()._holds(step, conditional, scope)
        except TemplateError as error:
            self._record(step, conditional, None, values, error.message)
            raise
        self._record(step, conditional, holds, values, None)
        return holds

    def _record(
        self, step: Step, conditional: Arc | AdmitRule, holds: bool | None, values: dict[str, Any], error: str | None
    ) -> None:
        is_arc = isinstance(conditional, Arc)
        index = conditional.index if isinstance(conditional, Arc) else step.admit.index(conditional)
        when = conditional.when
        self._evaluated.append(
            EvaluatedCondition(
                seq=self.fact.seq,
                step=step.name,
                about="arc" if is_arc else "admission",
                index=index,
                target=conditional.target if isinstance(conditional, Arc) else None,
                when=None if when is None else when.source,
                line=None if when is None else when.line,
                holds=holds,
                values=values,
                error=error,
            )
        )


def values_read(template: Template, scope: Scope) -> dict[str, Any]:
    """Path -> its value, shortened; the error in parentheses where it has none."""
    found = {}
    for path, reader in path_templates(template.source):
        try:
            found[path] = shortened(reader.render(scope))
        except TemplateError as error:
            found[path] = f"({error.message})"
    return found


def shortened(value: Any) -> Any:
    try:
        text = canonical(value)
    except TypeError:
        return str(value)[:MAX_CHARACTERS]
    return value if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}... ({len(text)} characters)"
