"""Resolves the calls of tools of the catalog: what the definition says, at the place of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import InvalidPlaybook
from . import grammar, model
from .defined_tool import Definition, pointer_path
from .document import Path, plain_data, walk
from .faults import did_you_mean
from .parser import message_of
from .plan import Interface, Rule, Task
from .scripts import digest
from .template import CallPlace, Place, SqlTemplate, Template, Tree, has_markers
from .tool_calls import TOOL_MISSING, ToolCall, found, location, newest
from .trees import Trees, templates_in

N = TypeVar("N", int, float)
# a definition of its text
Define = Callable[[str], Definition]
_KEYS = tuple(ToolCall.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A definition as it is called: `config` has the credentials that the caller binds, all places are the call's."""

    interface: Interface
    tool: model.Tool
    task: Task
    config: dict[str, Tree]
    rules: tuple[Rule, ...]


class CalledTools:
    def __init__(self, trees: Trees, parts: dict[str, str], define: Define) -> None:
        """`parts`: location -> digest, to which the definitions are added; `define` compiles one and raises
        InvalidPlaybook."""
        self.trees = trees
        self.faults = trees.faults
        self._parts = parts
        self._define = define
        self._known: dict[str, Definition | None] = {}

    def resolve(self, tool: model.Tool, step: model.Step, path: Path) -> Called | None:
        """None if there is a fault, which is then in `faults`."""
        call = self._call(tool, path)
        if call is None:
            return None
        texts = self.faults.document.scripts
        version_and_text = found(call, texts)
        if version_and_text is None:
            self.faults.add(_missing(call), (*path, "path"), TOOL_MISSING)
            return None
        version, text = version_and_text
        definition = self._definition(call.path, version, text, path)
        if definition is None:
            return None
        for part in (location(call.path, version), *([newest(call.path)] if call.version is None else [])):
            self._parts[part] = digest(texts[part])
        interface = Interface(
            path=call.path,
            version=version,
            input=_plain(definition.model.input),
            output=_plain(definition.model.output),
        )
        self._check_input(definition, interface, tool, step, path)
        here = self.trees.place(path)
        place = CallPlace(here.line, here.column, here.pointer)
        config = {key: _at(value, place) for key, value in _mapping(definition.task.config).items() if key != "input"}
        return Called(
            interface=interface,
            tool=definition.tool,
            task=definition.task,
            config=self._bound(config, call, definition, interface, path),
            rules=tuple(_rule_at(rule, place) for rule in definition.task.rules),
        )

    def _call(self, tool: model.Tool, path: Path) -> ToolCall | None:
        given = plain_data(tool.config)
        if isinstance(given.get("path"), str) and has_markers(given["path"]):
            message = "it cannot be a template: a tool of the catalog is resolved when the playbook is registered"
            self.faults.add(message, (*path, "path"))
            return None
        try:
            return ToolCall.model_validate(given)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                kind, place = fault["type"], fault["loc"]
                code = "playbook.invalid_value"
                message = message_of(fault, fault["input"])
                if kind == "extra_forbidden":
                    hint = did_you_mean(str(place[-1]), _KEYS) or f"; allowed here: {', '.join(_KEYS)}"
                    message, code = f"unknown key '{place[-1]}'{hint}", "playbook.unknown_key"
                elif kind == "missing":
                    message, code = f"'{place[-1]}' is required", "playbook.missing_field"
                self.faults.add(message, (*path, *place), code, key=kind == "extra_forbidden")
            return None

    def _definition(self, name: str, version: int, text: str, path: Path) -> Definition | None:
        """Compiled once for all calls in the playbook."""
        key = location(name, version)
        if key not in self._known:
            self._known[key] = None
            try:
                self._known[key] = self._define(text)
            except InvalidPlaybook as invalid:
                self.faults.add(f"the tool {name} version {version} is faulty: {invalid.detail}", (*path, "path"))
        return self._known[key]

    # -- credentials

    def _bound(
        self, config: dict[str, Tree], call: ToolCall, definition: Definition, interface: Interface, path: Path
    ) -> dict[str, Tree]:
        """The config with the credentials that the caller names in place of the names of the definition."""
        needed = definition.model.credentials
        for name in call.credentials.keys() - needed.keys():
            known = f"; it needs {', '.join(needed)}" if needed else "; it needs none"
            message = f"{interface.title} needs no credential '{name}'{did_you_mean(name, needed) or known}"
            self.faults.add(message, (*path, "credentials", name), "playbook.unknown_secret", key=True)
        bound: dict[str, Tree] = {}
        for name, need in needed.items():
            given = call.credentials.get(name, need.default or name)
            tree = self.trees.tree(given, (*path, "credentials", name))
            for template in templates_in(tree):
                if shadowed := sorted(template.reads.keys() & interface.properties.keys()):
                    message = f"'{shadowed[0]}' would be the input of the tool here: write workload.NAME or ctx.NAME"
                    self.faults.add(message, (*path, "credentials", name))
            bound[name] = tree
        return {**config, **{key: _named(config[key], bound) for key in grammar.AUTH_FIELDS & config.keys()}}

    # -- the input

    def _check_input(
        self, definition: Definition, interface: Interface, tool: model.Tool, step: model.Step, path: Path
    ) -> None:
        """As far as it is known before it is rendered."""
        names, of_step = definition.names, (*path[:2], "input")
        given = {**{name: value for name, value in step.input.items() if name in names}, **tool.input}
        for name in tool.input:
            if name not in names and not definition.is_open:
                known = did_you_mean(name, names) or (f"; it takes {', '.join(sorted(names))}" if names else "")
                message = f"{interface.title} takes no '{name}'{known}"
                self.faults.add(message, (*path, "input", name), "playbook.tool_input", key=True)
        for name in (definition.model.input or {}).get("required", ()):
            if name not in given:
                message = f"{interface.title} requires '{name}' in its input"
                self.faults.add(message, (*path, "input"), "playbook.tool_input")
        if not given:
            return
        # few playbooks call one
        from .json_schema import check

        rest = {key: value for key, value in (interface.input or {}).items() if key not in _CHECKED}
        unknown = [place for place, value in walk(given, ()) if isinstance(value, str) and has_markers(value)]
        for fault in check(rest, plain_data(given)):
            at = pointer_path(fault.pointer)
            if not any(at == place[: len(at)] or place == at[: len(place)] for place in unknown):
                base = (*path, "input") if not at or at[0] in tool.input else of_step
                message = f"{interface.title}: {fault.message}"
                self.faults.add(message, (*base, *at), "playbook.tool_input")


# of the schema of an input: with messages of their own, and without what only templates can give
_CHECKED = frozenset({"required", "additionalProperties", "unevaluatedProperties"})


def _missing(call: ToolCall) -> str:
    version = "" if call.version is None else f" version {call.version}"
    return (
        f"the tool {call.path}{version} is read from the catalog when the playbook is registered; to use it without a "
        "stack, put its file beside the playbook"
    )


def _named(value: Tree, bound: Mapping[str, Tree]) -> Tree:
    if isinstance(value, str):
        return bound.get(value, value)
    if isinstance(value, dict) and isinstance(value.get("credential"), str):
        return {**value, "credential": bound.get(str(value["credential"]), value["credential"])}
    return value


def _at(tree: Tree, place: Place) -> Tree:
    """The tree with its templates at another place."""
    if isinstance(tree, (Template, SqlTemplate)):
        return tree.at(place)
    if isinstance(tree, dict):
        return {key: _at(value, place) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_at(value, place) for value in tree]
    return tree


def _rule_at(rule: Rule, place: Place) -> Rule:
    return replace(
        rule,
        when=None if rule.when is None else rule.when.at(place),
        attempts=_number_at(rule.attempts, place),
        delay=_number_at(rule.delay, place),
        max_delay=None if rule.max_delay is None else _number_at(rule.max_delay, place),
    )


def _number_at(number: N | Template, place: Place) -> N | Template:
    return number.at(place) if isinstance(number, Template) else number


def _mapping(tree: Tree) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}


def _plain(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if schema is None else plain_data(schema)
