"""Checks the documents of the catalog that are no playbooks, with the kinds of tools that are installed here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Fault, InvalidPlaybook
from ..playbook.compile import canonical_hash
from ..playbook.defined_tool import Definition
from ..playbook.definition import add_schema_faults, load_definition, named_credentials
from ..playbook.document import Document, plain_data
from ..playbook.faults import Faults, did_you_mean
from ..playbook.json_schema import validate_schema
from ..playbook.load import LoadedPlaybook, read_playbook
from ..playbook.parser import validate_as
from ..playbook.resource import MODELS, CredentialDescription, McpServer, McpTool, Resource
from . import credential_types, registry, task_fields

if TYPE_CHECKING:
    from ..playbook.lint import Finding

# a document says its kind in a line of its own, or in a mapping on one line
_KIND = re.compile(rf"[\"']?kind[\"']?\s*:\s*[\"']?({'|'.join(MODELS)})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedResource:
    """`payload`: what it is about, as plain data; `definition`: of a tool."""

    kind: str
    path: str
    hash: str
    meta: dict[str, Any]
    payload: dict[str, Any]
    document: Document
    definition: Definition | None = None


def kind_of(text: str) -> str | None:
    """Its kind, if it is a document of the catalog that is no playbook; None for all others, unreadable ones too."""
    if not _KIND.search(text):
        return None
    try:
        return kind_of_document(read_playbook(text))
    except InvalidPlaybook:
        return None


def kind_of_document(document: Document) -> str | None:
    kind = document.root.get("kind") if isinstance(document.root, dict) else None
    return kind if isinstance(kind, str) and kind in MODELS else None


def load_resource(document: Document, *, kinds: Collection[str]) -> LoadedResource:
    """`kinds`: the known tool kinds. Raises InvalidPlaybook with all faults."""
    kind = kind_of_document(document)
    assert kind is not None
    faults = Faults(document)
    definition: Definition | None = None
    if kind == "Tool":
        definition = _tool(document, kinds, faults)
        faults.raise_if_any()
        assert definition is not None
        model: Resource | None = definition.model
    else:
        model = validate_as(MODELS[kind], document, faults)
        faults.raise_if_any()
        _check(model, kinds, faults)
        if isinstance(model, CredentialDescription):
            document.warnings.extend(
                document.fault(message, ("type",), "playbook.unfit_value")
                for message in credential_types.warnings(model.type)
            )
    faults.raise_if_any()
    assert model is not None
    root = plain_data(document.root)
    return LoadedResource(
        kind=kind,
        path=model.path,
        hash=definition.hash if definition is not None else canonical_hash(root, {}),
        meta=root["metadata"],
        payload={key: value for key, value in root.items() if key not in ("apiVersion", "kind", "metadata")},
        document=document,
        definition=definition,
    )


def lint(text: str, *, kinds: Collection[str]) -> list[Finding]:
    """The errors that registration refuses or, if there are none, the warnings; each by line."""
    # no function needs it
    from ..playbook import lint as linting

    try:
        loaded = load_resource(read_playbook(text), kinds=kinds)
    except InvalidPlaybook as invalid:
        return linting.findings(invalid.faults, "error")
    definition = loaded.definition
    if definition is not None:
        shaped = LoadedPlaybook(document=definition.document, playbook=definition.playbook, plan=definition.plan)
        return linting.warnings(shaped)
    warnings = [*loaded.document.warnings, *loaded.document.surprises]
    return linting.findings(sorted(warnings, key=lambda fault: (fault.line or 0, fault.column or 0)), "warning")


def _tool(document: Document, kinds: Collection[str], faults: Faults) -> Definition | None:
    found: list[Fault] = []
    definition: Definition | None = None
    try:
        definition = load_definition(document, kinds=kinds)
    except InvalidPlaybook as invalid:
        found += invalid.faults or [Fault(invalid.detail)]
    if document.value(("tool", "kind")) in kinds:
        found += task_fields.faults_of(document, {fault.pointer for fault in found})
    faults.take(found)
    if definition is not None and not found:
        _check_types(definition, document, faults)
    return definition


def _check_types(definition: Definition, document: Document, faults: Faults) -> None:
    """The tool takes credentials of the types that the definition asks for."""
    known = getattr(registry.load(definition.tool.kind), "credentials", {})
    for path, name in named_credentials(definition.tool):
        needed = definition.model.credentials[name].type
        chosen = document.value(("tool", *path[:-1], "type")) if len(path) > 1 else None
        if known and needed not in known and chosen is None:
            hint = did_you_mean(needed, known) or f"; it reads {', '.join(sorted(known))}"
            message = f"{definition.tool.kind} reads no credentials of type {needed!r}{hint}"
            faults.add(message, ("credentials", name, "type"))


def _check(model: Resource | None, kinds: Collection[str], faults: Faults) -> None:
    match model:
        case McpServer():
            for index, tool in enumerate(model.spec.tools):
                for key, schema in _schemas(tool):
                    at = ("spec", "tools", index, key)
                    add_schema_faults(validate_schema(plain_data(schema)), at, faults)
        case CredentialDescription():
            for fault in credential_types.check(model.type, model.fields):
                name = fault.pointer.rpartition("/")[2]
                faults.add(fault.message, ("fields", name), key=True)
            for index, kind in enumerate(model.kinds):
                if kind not in kinds:
                    message = f"unknown tool kind '{kind}'{did_you_mean(kind, kinds)}"
                    faults.add(message, ("kinds", index), "playbook.unknown_kind")


def _schemas(tool: str | McpTool) -> Iterator[tuple[str, Any]]:
    if isinstance(tool, McpTool):
        yield from (
            (key, schema)
            for key, schema in (("inputSchema", tool.input_schema), ("outputSchema", tool.output_schema))
            if schema is not None
        )
