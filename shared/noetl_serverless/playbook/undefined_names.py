"""Names in templates that nothing in the document gives a value at that place.

They are warnings: the payload of an execution may add keys to its workload, and a template may stand where it is never
rendered. A name that the template itself asks about (`is defined`, `default`, `get`) is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

from ..errors import pointer_keys
from .faults import Faults, did_you_mean
from .input_form import input_form
from .plan import Plan
from .sandbox import GLOBALS
from .scope import RESERVED, VARIABLES, older_names
from .sites import Site, assigned, sites
from .template import SqlTemplate, Template
from .template_places import find_place
from .trees import templates_in
from .trigger_plan import EVENT, EVENT_FIELDS

CODE = "playbook.undefined_name"
# what can be read of a step that was skipped
_OF_SKIPPED = frozenset({"status", "error", "_ref"})
_WHERE = {
    "iter": "a tool of a step with a loop, or whose rules set iter.NAME,",
    "loop": "a step with a loop",
    "event": "'set' and the arcs of a step",
    "output": "rules, 'set' of a step, and arcs",
    "error": "rules, 'set' of a step, and arcs",
}
_ASKS = frozenset({"defined", "undefined"})
_DEFAULTS = frozenset({"default", "d"})

Segments = frozenset[str] | None


def check(plan: Plan, faults: Faults) -> None:
    _Names(plan, faults).run()


class _Names:
    def __init__(self, plan: Plan, faults: Faults) -> None:
        self.plan = plan
        self.faults = faults
        self.ctx = assigned(plan, "ctx")
        self.variables = assigned(plan, VARIABLES)
        self.inputs = {field.name for field in input_form(plan.workload, plan.input_schema)}
        self.order = _Order(plan)

    def run(self) -> None:
        for site in sites(self.plan):
            for template in site.templates:
                guarded: frozenset[str] | None = None
                for name, segments in sorted(template.reads.items()):
                    for what, message, code in self._faults_of(site, name, segments):
                        guarded = _guarded(template) if guarded is None else guarded
                        if what not in guarded and name not in guarded:
                            self._add(template, name, message, code)
        for trigger in self.plan.triggers.values():
            for template in templates_in([trigger.when, trigger.input, trigger.event_id]):
                self._of_event(template)

    def _faults_of(self, site: Site, name: str, segments: Segments) -> Iterator[tuple[str, str, str]]:
        """(what is read, message, code)"""
        if name in GLOBALS:
            return
        if name in RESERVED:
            yield from self._reserved(site, name, segments or frozenset())
        elif name in site.names or name in site.iter or name in self.ctx or name in self.inputs:
            return
        elif name in self.plan.steps:
            yield from self._step(site, name, segments)
        elif name == VARIABLES:
            yield from self._unlike_variables(segments or frozenset())
        elif name in older_names(with_output="output" not in site.absent):
            return
        else:
            known = {
                *site.names,
                *site.iter,
                *self.ctx,
                *self.inputs,
                *self.plan.steps,
                *RESERVED - site.absent,
            }
            hint = did_you_mean(name, sorted(known)) or "; only the caller can give it, as a key of the workload"
            if name == "result":
                # as `output.data` is called in older playbooks, where there is an output
                hint = "; the result of a step is read by the name of the step: STEP.FIELD"
            yield name, f"'{name}' is not defined here{hint}", CODE

    def _reserved(self, site: Site, name: str, keys: frozenset[str]) -> Iterator[tuple[str, str, str]]:
        if name in site.absent:
            where = _WHERE.get(name, "the tools of a step")
            yield name, f"'{name}' has no value here: only {where} can read it", CODE
            return
        known, text = {
            "workload": (self.inputs, "the workload has no '{}'{}: the caller must pass it"),
            "ctx": (self.ctx, "nothing sets ctx.{}{}: the caller must pass it in 'ctx'"),
            "iter": (site.iter, "nothing sets iter.{} in this step{}"),
            "step": (site.locals, "no rule of this step sets step.{}{}"),
        }.get(name, (keys, ""))
        for key in sorted(keys - {"get", *known}):
            hint = did_you_mean(key, sorted(known))
            hint = f" ({hint.removeprefix('; ')})" if hint and name in ("workload", "ctx") else hint
            yield f"{name}.{key}", text.format(key, hint), CODE

    def _of_event(self, template: Template | SqlTemplate) -> None:
        for key in sorted((template.reads.get(EVENT) or frozenset()) - {"get", *EVENT_FIELDS}):
            if f"{EVENT}.{key}" not in _guarded(template):
                hint = did_you_mean(key, sorted(EVENT_FIELDS)) or f" (there are {', '.join(sorted(EVENT_FIELDS))})"
                self._add(template, EVENT, f"the event of a trigger has no '{key}'{hint}", CODE)

    def _unlike_variables(self, keys: frozenset[str]) -> Iterator[tuple[str, str, str]]:
        """Users may set any variable; one that is spelled like one of the playbook's is meant to be it."""
        for key in sorted(keys - {"get", *self.variables}):
            if hint := did_you_mean(key, sorted(self.variables)):
                yield f"vars.{key}", f"nothing in the playbook sets vars.{key}{hint}", CODE

    def _step(self, site: Site, name: str, segments: Segments) -> Iterator[tuple[str, str, str]]:
        here = site.step.name
        if (name == here and site.ended) or site.step.compensates is not None:
            # what is undone has run, and whatever was there then
            return
        match self.order.of(name, here):
            case "after":
                message = f"the step '{name}' cannot have run yet" + (
                    f": it comes after '{here}'" if name != here else " when it reads itself"
                )
                yield name, message, "playbook.not_run"
            case "never" if segments is None or segments - _OF_SKIPPED:
                message = f"no path leads from the step '{name}' to '{here}': here it has no result, only a status"
                yield name, message, "playbook.not_run"

    def _add(self, template: Template | SqlTemplate, name: str, message: str, code: str) -> None:
        place = template.place
        if place is None:
            return
        line, column = place.within(*find_place(template.environment, template.source, None, name))
        self.faults.add_at(message, pointer_keys(place.pointer), line, column, code)


class _Order:
    """Whether one step can have run before another."""

    def __init__(self, plan: Plan) -> None:
        self._reach = plan.reach
        self._entry = plan.entry
        self._final = plan.final_step
        self._parallel = _parallel(plan)

    def of(self, step: str, here: str) -> str:
        """Relative to `here`, `step` runs before (it can have run), after (it cannot have run), or never."""
        if here in self._reach[step] or self._is_outside(step) or self._is_late(here) or self._is_parallel(step, here):
            return "before"
        return "after" if step == here or step in self._reach[here] else "never"

    def _is_outside(self, step: str) -> bool:
        """Not reached from the entry: it never runs, or only after the final step."""
        return step != self._entry and step not in self._reach[self._entry]

    def _is_late(self, step: str) -> bool:
        """It may run after all others, or never."""
        late = self._final is not None and (step == self._final or step in self._reach[self._final])
        return late or self._is_outside(step)

    def _is_parallel(self, *steps: str) -> bool:
        return self._parallel.issuperset(steps)


def _parallel(plan: Plan) -> set[str]:
    """The steps that may run while another one does: all that come after several arcs were taken at once."""
    forks = [step for step in plan.steps.values() if step.mode == "inclusive" and len(step.arcs) > 1]
    open_ = [arc.target for step in forks for arc in step.arcs]
    found: set[str] = set()
    while open_:
        name = open_.pop()
        if name not in found and name in plan.steps:
            found.add(name)
            open_ += [arc.target for arc in plan.steps[name].arcs]
    return found


def _guarded(template: Template | SqlTemplate) -> frozenset[str]:
    """The names and paths that the template asks about, or has a default for: `x`, `ctx.x`."""
    tree = template.environment.parse(template.source)
    found = [node.node for node in tree.find_all(nodes.Test) if node.name in _ASKS]
    found += [node.node for node in tree.find_all(nodes.Filter) if node.name in _DEFAULTS and node.node is not None]
    names = {_dotted(node) for node in found}
    for call in tree.find_all(nodes.Call):
        match call:
            case nodes.Call(
                node=nodes.Getattr(node=nodes.Name(name=name), attr="get"), args=[nodes.Const(value=key), *_]
            ):
                names.add(f"{name}.{key}")
    return frozenset(names)


def _dotted(node: nodes.Node) -> str:
    """The first two parts of a path, such as `ctx.x` of `ctx.x.y`; empty for anything else."""
    match node:
        case nodes.Name(name=name):
            return str(name)
        case (
            nodes.Getattr(node=nodes.Name(name=name), attr=key)
            | nodes.Getitem(node=nodes.Name(name=name), arg=nodes.Const(value=key))
        ):
            return f"{name}.{key}"
        case nodes.Getattr(node=inner) | nodes.Getitem(node=inner):
            return _dotted(inner)
    return ""
