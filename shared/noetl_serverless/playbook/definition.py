"""Checks and compiles the definition of a tool: its document is taken for a playbook of one step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ..errors import InvalidPlaybook
from . import compile, grammar, semantics
from .defined_tool import STEP, Definition, pointer_path, properties_of
from .document import Document, ListNode, MapNode, Mark, plain_data
from .faults import Faults, did_you_mean
from .json_schema import SchemaFault, validate_schema
from .model import Tool
from .parser import validate, validate_as
from .plan import Plan
from .resource import ToolDefinition
from .sandbox import GLOBALS
from .scope import RESERVED
from .scripts import digest
from .semantics import RESERVED_NAMES, own_rules
from .sites import Site, sites
from .template import has_markers

# of the reserved names, what the templates of a tool may read
_READABLE: Final = frozenset({"execution_id", "_task", "_attempt"})
_OF_RULES: Final = frozenset({"output", "error", "result"})
# kinds that are no single call of a tool
_REFUSED: Final[Mapping[str, str]] = {
    "tool": "a tool of the catalog cannot call another one",
    "workbook": "a tool of the catalog has no workbook",
    "playbook": "a tool of the catalog starts no playbook: call that from a step",
}


def load_definition(document: Document, *, kinds: Collection[str]) -> Definition:
    """`kinds`: the known tool kinds. Raises InvalidPlaybook with all faults."""
    faults = Faults(document)
    model = validate_as(ToolDefinition, document, faults)
    faults.raise_if_any()
    assert model is not None
    _check_schemas(model, faults)
    if why := _REFUSED.get(model.tool.kind):
        faults.add(why, ("tool", "kind"), "playbook.not_supported")
        faults.raise_if_any()
    shaped = as_playbook(document)
    inner = Faults(shaped)
    playbook = validate(shaped, inner)
    inner.raise_if_any()
    assert playbook is not None
    semantics.check(playbook, kinds, inner)
    plan = compile.build(playbook, inner, _define)
    faults.take(inner.sorted())
    if not inner:
        # of templates that compile
        _check_names(model, plan, faults, shaped)
    _check_rules(model.tool, faults)
    _check_credentials(model, faults)
    faults.raise_if_any()
    digests = {place: digest(content) for place, content in document.scripts.items()}
    hash = compile.canonical_hash(plain_data(document.root), digests)
    return Definition(document=shaped, playbook=playbook, plan=replace(plan, hash=hash), model=model)


def _define(text: str) -> Definition:
    raise InvalidPlaybook(_REFUSED["tool"])


def as_playbook(document: Document) -> Document:
    """A playbook of one step, whose input has the names of the definition's."""
    root = document.root
    mark = root.mark if isinstance(root, MapNode) else Mark(1, 1, 1)
    tool, tool_mark = (root.get("tool"), root.value_marks["tool"]) if "tool" in root else (None, mark)
    given = MapNode(mark)
    properties = document.value(("input", "properties"))
    for name in properties if isinstance(properties, MapNode) else ():
        given = given.having(name, None, *properties.marks_of(name))
    step = _map(mark, step=(STEP, mark), tool=(tool, tool_mark), input=(given, mark))
    workflow = ListNode(mark)
    workflow.append(step)
    workflow.marks.append(mark)
    metadata = (root["metadata"], root.value_marks["metadata"])
    playbook = _map(
        mark,
        apiVersion=(root["apiVersion"], root.value_marks["apiVersion"]),
        kind=("Playbook", mark),
        metadata=metadata,
        workflow=(workflow, mark),
    )
    moved: dict[tuple[str | int, ...], tuple[str | int, ...]] = {
        ("workflow", 0, "tool"): ("tool",),
        ("workflow", 0, "input"): ("input", "properties"),
    }
    return replace(document, root=playbook, moved=moved, written=None)


def _map(mark: Mark, **values: tuple[Any, Mark]) -> MapNode:
    node = MapNode(mark)
    for key, (value, at) in values.items():
        node[key] = value
        node.key_marks[key] = node.value_marks[key] = at
    return node


def _check_schemas(model: ToolDefinition, faults: Faults) -> None:
    for key in ("input", "output"):
        schema = getattr(model, key)
        if schema is not None:
            add_schema_faults(validate_schema(plain_data(schema)), (key,), faults)
    schema = model.input or {}
    if schema.get("type", "object") != "object":
        faults.add("the input of a tool is an object: write type: object", ("input", "type"))
    for name in properties_of(schema):
        if name in RESERVED_NAMES:
            faults.add(
                f"'{name}' is reserved in templates; rename it",
                ("input", "properties", name),
                "playbook.reserved_name",
                key=True,
            )


def add_schema_faults(found: Collection[SchemaFault], path: tuple[str | int, ...], faults: Faults) -> None:
    for fault in found:
        faults.add(f"JSON Schema: {fault.message}", (*path, *pointer_path(fault.pointer)), "playbook.schema")


def _check_names(model: ToolDefinition, plan: Plan, faults: Faults, shaped: Document) -> None:
    """It reads its input alone: it means the same in every playbook."""
    names = frozenset(properties_of(model.input))
    task = plan.steps[STEP].tasks[0]
    for site in sites(plan):
        for name, path in _foreign(site, names):
            hint = did_you_mean(name, names) if name not in RESERVED else ""
            message = f"a tool reads its input alone, and '{name}' is not declared in it{hint}"
            faults.take([shaped.fault(message, path, "playbook.undefined_name")])
    if task.context is not None:
        message = "code of a tool reads its input alone: 'context' is that of an execution"
        faults.add(message, ("tool", "code"), "playbook.undefined_name")


def _foreign(site: Site, names: frozenset[str]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    readable = _READABLE | (frozenset() if "output" in site.absent else _OF_RULES)
    for template in site.templates:
        for name in sorted(template.reads):
            declared = name in names and "output" in site.absent
            if not declared and name not in readable and name not in GLOBALS:
                yield name, pointer_path(template.place.pointer if template.place is not None else "")


def _check_rules(tool: Tool, faults: Faults) -> None:
    for index, rule in enumerate(own_rules(tool)):
        then, part = (rule.otherwise.then, ("else", "then")) if rule.otherwise else (rule.then, ("then",))
        here = ("tool", "spec", "policy", "rules", index, *part)
        if then is not None and then.set:
            faults.add("a tool sets nothing in the playbook that calls it", (*here, "set"), key=True)
        if then is not None and then.do in ("jump", "break"):
            faults.add(f"a tool has no other tasks: do: {then.do} belongs in the step", (*here, "do"))
    if tool.spec is not None and isinstance(tool.spec.timeout, str):
        faults.add("the timeout of a tool is a number; the caller may give another", ("tool", "spec", "timeout"))
    if "input" in tool.model_fields_set:
        message = (
            "the input of a tool is what its schema declares, in 'input' at the top, and callers give it: templates "
            "read the properties by their names, and so does Python code, as variables. Remove it here"
        )
        faults.add(message, ("tool", "input"), key=True)
    if tool.name is not None:
        faults.add("a task is named where it is called; the tool has a metadata.name", ("tool", "name"), key=True)


def _check_credentials(model: ToolDefinition, faults: Faults) -> None:
    used = set()
    for path, name in named_credentials(model.tool):
        used.add(name)
        if has_markers(name) or name not in model.credentials:
            hint = did_you_mean(name, model.credentials) or "; declare it there"
            faults.add(f"'credentials' has no '{name[:80]}'{hint}", ("tool", *path), "playbook.unknown_secret")
    for name in model.credentials:
        if name not in used:
            faults.add(f"the tool does not use the credential '{name}'", ("credentials", name), key=True)


def named_credentials(tool: Tool) -> Iterator[tuple[tuple[str, ...], str]]:
    """What its `auth` names, each with its place."""
    for key in sorted(grammar.AUTH_FIELDS & tool.config.keys()):
        value = tool.config[key]
        if isinstance(value, str):
            yield (key,), value
        elif isinstance(value, Mapping) and isinstance(value.get("credential"), str):
            yield (key, "credential"), value["credential"]
