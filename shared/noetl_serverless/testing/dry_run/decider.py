"""Decides as the engine does; a condition that depends on an unknown value is a choice between its two outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...engine.assigned import SetValues
from ...engine.decide import Decider
from ...engine.events import Event
from ...engine.result_check import ResultCheck
from ...engine.state import State, token_key
from ...engine.variables import PREFIX
from ...playbook.paths import path_templates
from ...playbook.plan import AdmitRule, Arc, Assignment, Plan, Step
from ...playbook.scope import VARIABLES, Scope
from ...playbook.template import Template
from ...playbook.template_error import NeedsFetch, TemplateError
from .selected import KIND as STORED
from .unknown import KIND, Unknown, reference

# the step, "arc" or "admission", and the place among those of the step
ConditionKey: TypeAlias = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition as it was evaluated. `undecided`: `holds` is a choice, because it reads what is unknown; `values`:
    what it reads, by path."""

    step: str
    generation: int
    about: str
    index: int
    target: str | None
    when: str | None
    line: int | None
    holds: bool
    undecided: bool
    values: Mapping[str, Any]


class Choices:
    """The choices of one path, and how to come to the others: a condition that no path has come by is taken to hold,
    and one more path does the same up to there and takes it not to hold. Where a path comes by a condition again, it
    takes it the way that it has taken less often, so that every cycle ends which a choice can end."""

    def __init__(self) -> None:
        self._known: set[ConditionKey] = set()
        self._pending: deque[list[tuple[ConditionKey, bool]]] = deque()
        self._prefix: list[tuple[ConditionKey, bool]] = []
        self._path: list[tuple[ConditionKey, bool]] = []
        # how much more often this path has taken it to hold than not
        self._balances: dict[ConditionKey, int] = {}

    @property
    def balances(self) -> Mapping[ConditionKey, int] | None:
        """What further choices of this path depend on; None while it follows an earlier one."""
        return self._balances if len(self._path) >= len(self._prefix) else None

    def begin_next(self) -> bool:
        """Begin the next path; false if there is none left."""
        if not self._pending:
            return False
        self._prefix, self._path, self._balances = self._pending.popleft(), [], {}
        return True

    def choose(self, key: ConditionKey) -> bool:
        position = len(self._path)
        holds = self._prefix[position][1] if position < len(self._prefix) else self._new(key)
        self._path.append((key, holds))
        self._balances[key] = self._balances.get(key, 0) + (1 if holds else -1)
        return holds

    def _new(self, key: ConditionKey) -> bool:
        if key not in self._known:
            self._known.add(key)
            self._pending.append([*self._path, (key, False)])
            return True
        return self._balances.get(key, 0) <= 0


class DryDecider(Decider):
    """`conditions`: where each evaluated one is added; `uncounted`: the loops whose number of items is unknown, as
    `step#generation`."""

    def __init__(
        self,
        plan: Plan,
        state: State,
        fact: Event,
        choices: Choices,
        conditions: list[Condition],
        uncounted: set[str],
    ) -> None:
        super().__init__(plan, state, fact)
        self._choices = choices
        self._conditions = conditions
        self._uncounted = uncounted

    def finish(self, step: Step, generation: int, output: dict[str, Any], event: str) -> None:
        if token_key(step.name, generation) in self._uncounted and output["status"] == "ok":
            # not what one item, which stood for all, would make of it
            outcome = {"status": "ok", "ref": reference(f"the results of the loop '{step.name}'")}
            self.state.outcomes[step.name] = outcome
            output = {**outcome, "meta": {}}
        super().finish(step, generation, output, event)

    def _holds(self, step: Step, conditional: Arc | AdmitRule, scope: Callable[[], Scope]) -> bool:
        is_arc = isinstance(conditional, Arc)
        index = conditional.index if isinstance(conditional, Arc) else step.admit.index(conditional)
        about = "arc" if is_arc else "admission"
        when = conditional.when
        undecided = False
        try:
            holds = super()._holds(step, conditional, scope)
        except NeedsFetch as error:
            if is_refused(error):
                raise
            undecided, holds = True, self._choices.choose((step.name, about, index))
        self._conditions.append(
            Condition(
                step=step.name,
                # an admission is decided before the run begins
                generation=self.state.generations.get(step.name, 0) + (0 if is_arc else 1),
                about=about,
                index=index,
                target=conditional.target if isinstance(conditional, Arc) else None,
                when=None if when is None else when.source,
                line=None if when is None else when.line,
                holds=holds,
                undecided=undecided,
                values={} if when is None else _values_read(when, scope()),
            )
        )
        return holds

    def variables(self, set_now: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_unknown(super().variables(set_now))

    def check_result(self, schema: Mapping[str, Any], outcome: Mapping[str, Any]) -> ResultCheck:
        """What is not known may fit."""
        is_unknown = outcome.get("ref", {}).get("kind") == KIND
        return ResultCheck() if is_unknown else super().check_result(schema, outcome)

    def _assign(self, step: Step, assignments: tuple[Assignment, ...], scope: Any) -> SetValues:
        assigned = SetValues()
        for assignment in assignments:
            try:
                assigned.update(super()._assign(step, (assignment,), scope))
            except NeedsFetch as error:
                if is_refused(error):
                    raise
                unknown = reference(source_of(assignment))
                if assignment.scope == VARIABLES:
                    assigned.update(SetValues({f"{PREFIX}{assignment.key}": unknown}))
                else:
                    assigned.update(SetValues(refs={assignment.key: unknown}))
        return assigned


def is_refused(error: NeedsFetch) -> bool:
    """Whether a real run cannot read it here either."""
    return error.ref is not None and error.ref["kind"] == STORED


def with_unknown(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The values of variables, an Unknown for one that a dry run has set by reference."""
    return {
        name: Unknown(value["ref"].removeprefix(f"{KIND}:"))
        if isinstance(value, Mapping) and value.get("kind") == KIND
        else value
        for name, value in variables.items()
    }


def source_of(assignment: Assignment) -> str:
    """The template of its value, or its name where the value has several."""
    return assignment.value.source if isinstance(assignment.value, Template) else f"{assignment.scope}.{assignment.key}"


def _values_read(template: Template, scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, reader in path_templates(template.source):
        try:
            found[path] = reader.render(scope)
        except NeedsFetch:
            found[path] = Unknown(path)
        except TemplateError:
            # it is missing, and the condition does without
            continue
    return found
