"""All errors of a playbook, and warnings of what is allowed but probably not intended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import nodes

from ..error_codes import ALL_CODES, spellings
from ..errors import Fault, InvalidPlaybook, pointer_keys
from . import (
    callbacks,
    declared_schemas,
    grammar,
    not_undone,
    own_fields,
    sandbox,
    selections,
    trigger_inputs,
    undefined_names,
    unread_input,
    unused_names,
)
from .code_spellings import compared_codes
from .code_templates import templates_in_code
from .document import Path, walk
from .failure_only import NAMES, is_attribute
from .faults import Faults, did_you_mean
from .keychain import Entry, Fetched, kind_of
from .keychain_plan import closure
from .literal_secrets import literal_secrets
from .load import LoadedPlaybook, load_playbook
from .model import Playbook, Tool
from .plan import Arc, Plan, Step
from .scope import LOOP_VARIABLES
from .semantics import HIDDEN_STEPS, own_rules, tool_path
from .sites import sites
from .sql_names import unnamed
from .sql_places import NAME_NEEDED
from .template import SqlTemplate, Template, has_markers
from .trees import templates_in

# what a template in code most likely means to read
_ROOTS = frozenset({"workload", "ctx", "iter", "event", "output", "keychain", "execution_id"})


@dataclass(frozen=True, slots=True)
class Finding(Fault):
    severity: Literal["error", "warning"] = "error"

    def to_dict(self) -> dict[str, Any]:
        return {"severity": self.severity, **Fault.to_dict(self)}


def lint(text: str, *, kinds: Collection[str] = grammar.BUILTIN_KINDS) -> list[Finding]:
    """The errors of the language by line, or, if there are none, the warnings."""
    try:
        return warnings(load_playbook(text, kinds=kinds))
    except InvalidPlaybook as invalid:
        return findings(invalid.faults, "error")


def warnings(loaded: LoadedPlaybook) -> list[Finding]:
    """By line."""
    faults = Faults(loaded.document)
    _Warnings(loaded.playbook, loaded.plan, faults).run()
    undefined_names.check(loaded.plan, faults)
    own_fields.check(loaded.plan, faults)
    unused_names.check(loaded.document, faults)
    unread_input.check(loaded.playbook, loaded.plan, faults)
    trigger_inputs.check(loaded.playbook, loaded.document.root, faults)
    declared_schemas.check_defaults(loaded.plan, faults)
    # older forms have been warned of when they were rewritten, surprises of YAML when it was read
    found = [*loaded.document.warnings, *loaded.document.surprises, *faults.sorted()]
    return findings(sorted(found, key=lambda fault: (fault.line or 0, fault.column or 0)), "warning")


def findings(faults: Iterable[Fault], severity: Literal["error", "warning"]) -> list[Finding]:
    return [
        Finding(
            fault.message,
            pointer=fault.pointer,
            line=fault.line,
            column=fault.column,
            code=fault.code,
            severity=severity,
        )
        for fault in faults
    ]


class _Warnings:
    def __init__(self, playbook: Playbook, plan: Plan, faults: Faults) -> None:
        self.playbook = playbook
        self.plan = plan
        self.faults = faults

    def run(self) -> None:
        reached = self._reached()
        if self.plan.has_compensations:
            not_undone.warn(self.playbook, self.plan, self.faults)
        for index, step in enumerate(self.plan.workflow.values()):
            path = ("workflow", index)
            if step.name not in reached:
                message = f"no arc leads from '{self.plan.entry}' to the step '{step.name}'"
                self.faults.add(message, (*path, "step"), "playbook.unreachable")
            if has_markers(self.playbook.workflow[index].desc or ""):
                message = (
                    "templates in 'desc' are not rendered: whoever decides on an approval reads them as they stand here"
                )
                self.faults.add(message, (*path, "desc"), "playbook.not_rendered")
            written = next(each for each in self.playbook.workflow if each.step == step.name)
            selections.warn(step, written, path, self.faults)
            if step.name in HIDDEN_STEPS:
                message = f"templates cannot read the step '{step.name}', which means something else there; rename it"
                self.faults.add(message, (*path, "step"), "playbook.reserved_name")
            self._dead_arcs(step, path)
            for arc in step.arcs:
                self._event_names(arc, (*path, "next", "arcs", arc.index, "when"))
                self._codes(arc.when.source if arc.when else None, (*path, "next", "arcs", arc.index, "when"))
            written = self.playbook.workflow[index]
            if written.loop is not None and written.loop.iterator in LOOP_VARIABLES:
                self._of_items(written.loop.iterator, (*path, "loop", "iterator"))
            policy = written.spec.policy if written.spec else None
            if policy is not None and policy.failure is not None and written.loop is None:
                message = "'failure' has no effect: the step has no loop, so that a failed tool fails it"
                self.faults.add(message, (*path, "spec", "policy", "failure"), "playbook.no_effect", key=True)
            if step.parks and step.concurrency is not None:
                message = (
                    "the step holds no slot while its sub-playbook runs, since it gives its worker back: write "
                    "executor: {spec: {concurrency: ...}} in the sub-playbook, which counts its executions"
                )
                if all(task.kind != "playbook" for task in step.tasks):
                    message = (
                        "a wait holds no slot, since it gives its worker back: executor: {spec: {concurrency: ...}} "
                        "counts the executions of this playbook, from their first command to their end"
                    )
                self.faults.add(message, (*path, "spec", "concurrency"), "playbook.no_effect", key=True)
            if self.plan.concurrency is not None and isinstance(self.plan.concurrency.key, str):
                self._calls_of_itself(step, index)
            for place, tool in enumerate(written.tools):
                self._rules(tool, tool_path(written, path, place))
                self._code(tool, tool_path(written, path, place))
        for index, task in enumerate(self.playbook.workbook):
            self._rules(task.tool, ("workbook", index, "tool"))
            self._code(task.tool, ("workbook", index, "tool"))
        self._names_in_sql()
        self._workload()
        for secret in literal_secrets(self.playbook):
            self._literal_secret(secret)
        self._keychain()

    def _calls_of_itself(self, step: Step, index: int) -> None:
        """An execution holds its slot until its end, and so while it waits for one that waits for a slot."""
        assert self.plan.concurrency is not None
        written = self.playbook.workflow[index]
        for place, task in enumerate(step.tasks):
            config = task.config if isinstance(task.config, dict) else {}
            if task.kind == "playbook" and str(config.get("path")) == self.plan.path:
                message = (
                    f"the playbook calls itself, and no more than {self.plan.concurrency.limit} of its executions may "
                    "run at once: those that wait for their sub-playbooks keep these waiting. Put what is limited into "
                    "a playbook of its own"
                )
                here = tool_path(written, ("workflow", index), place)
                self.faults.add(message, (*here, "path"), "playbook.waits_for_itself")

    def _reached(self) -> set[str]:
        starts = {self.plan.entry} | ({self.plan.final_step} if self.plan.final_step else set())
        return starts.union(*(self.plan.reach[start] for start in starts))

    def _dead_arcs(self, step: Step, path: tuple[str | int, ...]) -> None:
        seen: dict[tuple[str, str | None], int] = {}
        for arc in step.arcs:
            condition = arc.when.source if arc.when is not None else None
            # where several arcs may be taken, those to other steps are no duplicates
            first = seen.setdefault(("" if step.mode == "exclusive" else arc.target, condition), arc.index)
            if first != arc.index and (step.mode != "exclusive" or condition is not None):
                effect = "never taken" if step.mode == "exclusive" else "without effect on the route"
                message = f"{effect}: the arc to '{step.arcs[first].target}' before it has the same condition"
                self.faults.add(message, (*path, "next", "arcs", arc.index), "playbook.dead_arc")
        if step.mode != "exclusive":
            return
        always = next((arc.index for arc in step.arcs if arc.when is None), None)
        for arc in step.arcs:
            # such an arc is evaluated after a failure, unlike the unconditional one
            if always is not None and arc.index > always and not arc.handles_failure:
                message = f"never taken: the arc to '{step.arcs[always].target}' before it has no condition"
                self.faults.add(message, (*path, "next", "arcs", arc.index), "playbook.dead_arc")

    def _event_names(self, arc: Arc, path: tuple[str | int, ...]) -> None:
        # most conditions need not be parsed for it
        for name in _compared_names(arc.when) if arc.when is not None and "event" in arc.when.source else ():
            if name not in grammar.EVENT_NAMES:
                hint = did_you_mean(name, grammar.EVENT_NAMES)
                self.faults.add(f"no event is named '{name}'{hint}", path, "playbook.unknown_event")

    def _codes(self, condition: Any, path: Path) -> None:
        is_about_codes = isinstance(condition, str) and "code" in condition
        for code in compared_codes(sandbox.TEXT.parse(condition)) if is_about_codes else ():
            newer = sorted(spellings(code) - {code}) if code not in ALL_CODES else []
            if newer:
                message = f"'{code}' is a former error code; it still matches. Write {' or '.join(map(repr, newer))}"
                self.faults.add(message, path, "playbook.former_code")

    def _rules(self, tool: Tool, path: Path) -> None:
        conditions: dict[Any, int] = {}
        for index, rule in enumerate(own_rules(tool)):
            first = index if rule.otherwise else conditions.setdefault(rule.when, index)
            if first != index:
                message = f"never applied: rule {first + 1} has the same condition"
                self.faults.add(message, (*path, "spec", "policy", "rules", index), "playbook.dead_rule")
            self._codes(rule.when, (*path, "spec", "policy", "rules", index, "when"))
            then, part = (rule.otherwise.then, ("else", "then")) if rule.otherwise else (rule.then, ("then",))
            if then is None:
                continue
            here = (*path, "spec", "policy", "rules", index, *part)
            if then.backoff == "none" and then.delay:
                message = "the delay has no effect because backoff is none; for a fixed delay, remove backoff"
                self.faults.add(message, (*here, "delay"), "playbook.no_delay")
            for key in then.set or ():
                scope, _, name = key.partition(".")
                if scope == "iter" and name in LOOP_VARIABLES:
                    self._of_items(name, (*here, "set", key))

    def _code(self, tool: Tool, path: Path) -> None:
        code = tool.config.get("code")
        if tool.kind != "python" or not isinstance(code, str):
            return
        names = {*_ROOTS, *self.plan.steps, *self.plan.workload}
        here = (*path, "code")
        _, mark = self.faults.document.find(here)
        for line, template in templates_in_code(code, names):
            name = template.strip("{}-+ ")[:60]
            message = (
                f'templates in Python code are not rendered: write input: {{value: "{{{{ {name} }}}}"}}, '
                "and read value in the code"
            )
            column = mark.content_column if line == 1 else mark.indent + 1
            self.faults.add_at(message, here, mark.content + line - 1, column, "playbook.not_rendered")

    def _names_in_sql(self) -> None:
        templates = [template for site in sites(self.plan) for template in site.templates]
        cursors = [step.loop.cursor for step in self.plan.steps.values() if step.loop is not None]
        templates += [template for cursor in cursors if cursor is not None for template in templates_in(cursor.claim)]
        for template in templates:
            if isinstance(template, SqlTemplate) and template.place is not None:
                for line, word in unnamed(template):
                    place, path = template.place.within(line, 1), pointer_keys(template.place.pointer)
                    message = f"no value can be bound after {word}: {NAME_NEEDED}"
                    self.faults.add_at(message, path, *place, "playbook.not_rendered")

    def _of_items(self, name: str, path: Path) -> None:
        message = f"iter.{name} is set by the loop itself; use another name"
        self.faults.add(message, path, "playbook.reserved_name")

    def _workload(self) -> None:
        for path, value in walk(self.playbook.workload, ("workload",)):
            if isinstance(value, str) and has_markers(value):
                self.faults.add("templates in 'workload' are not rendered: it is data", path, "playbook.not_rendered")

    def _keychain(self) -> None:
        used = self._used_secrets()
        for index, entry in enumerate(self.playbook.keychain):
            path: Path = ("keychain", index)
            if entry.name not in used:
                message = f"no step uses the keychain entry '{entry.name}'"
                self.faults.add(message, (*path, "name"), "playbook.unused_secret")
            self._without_effect(entry, path)
            self._awaited(entry, path)
            for key in ("token", "map") if entry.kind in ("bearer", "static") else ():
                texts = (value for _, value in walk(getattr(entry, key, None), ()) if isinstance(value, str))
                if any(text and not has_markers(text) for text in texts):
                    self._literal_secret((*path, key))

    def _without_effect(self, entry: Entry, path: Path) -> None:
        """Older playbooks have these keys at entries of any kind."""
        for key in ("scope", "auto_renew") if not isinstance(entry, Fetched) else ():
            if key in entry.model_fields_set:
                message = f"'{key}' has no effect: the values of an entry of kind {kind_of(entry)} are not fetched"
                self.faults.add(message, (*path, key), "playbook.no_effect", key=True)

    def _awaited(self, entry: Entry, path: Path) -> None:
        compiled = self.plan.keychain[entry.name]
        if compiled.kind != "callback":
            return
        key, other = ("approval", "signal") if callbacks.is_approval(compiled) else ("signal", "approval")
        if not callbacks.may_be_awaited(self.plan, compiled):
            message = (
                f"no step of this playbook waits for '{getattr(entry, key)}', which the URL is to answer: add a step "
                "with kind: wait"
            )
            self.faults.add(message, (*path, key), "playbook.not_awaited")
        elif steps := callbacks.steps_of_other_kind(self.plan, compiled):
            message = (
                f"the step '{steps[0]}' waits for this as {other}, and the URL answers as {key}: write the same key in "
                "both"
            )
            self.faults.add(message, (*path, key), "playbook.not_awaited")
        for step in callbacks.parallel_loops_that_read(self.plan, compiled):
            message = (
                f"the URL has one answer for all items of the loop '{step}' that run at once: write mode: sequential, "
                "or let each item call a playbook that has the entry and the wait"
            )
            self.faults.add(message, (*path, "name"), "playbook.one_answer")

    def _literal_secret(self, path: Path) -> None:
        message = (
            "everybody who may read the playbook can read this value: store a secret as a credential, and "
            "name it in an entry of kind credential"
        )
        self.faults.add(message, path, "playbook.literal_secret")

    def _used_secrets(self) -> set[str]:
        """Entries that a step reads, or may name as a credential, and those that they need."""
        entries, names = self.plan.keychain, set[str]()
        for step in self.plan.steps.values():
            names |= step.all_secrets
            for task in step.tasks:
                config = task.config if isinstance(task.config, dict) else {}
                auth = [config[key] for key in grammar.AUTH_FIELDS & config.keys()]
                names |= {value for tree in auth for _, value in walk(tree, ()) if isinstance(value, str)}
                if any(True for tree in auth for _ in templates_in(tree)):
                    names |= entries.keys()
        return closure(entries, names)


def _compared_names(template: Template) -> Iterator[str]:
    """The strings that `event.name` is compared with."""
    for compare in sandbox.TEXT.parse(template.source).find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        if any(is_attribute(side, *NAMES) for side in sides):
            for side in sides:
                constants = side.items if isinstance(side, (nodes.List, nodes.Tuple)) else [side]
                yield from (c.value for c in constants if isinstance(c, nodes.Const) and isinstance(c.value, str))
