"""Reads, checks and compiles the text of a playbook; the text is read once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import compile, semantics
from .document import Document, Unreadable, plain_data, read_document
from .faults import Faults, problem
from .grammar import BUILTIN_KINDS, EXECUTABLE, RESOURCES
from .model import Playbook
from .older_forms import rewrite
from .parser import validate
from .plan import Plan

if TYPE_CHECKING:
    from .defined_tool import Definition


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlaybook:
    document: Document
    playbook: Playbook
    plan: Plan


def load_playbook(text: str, *, kinds: Collection[str] = BUILTIN_KINDS) -> LoadedPlaybook:
    """`kinds`: the known tool kinds. Raises InvalidPlaybook with all faults."""
    return load_document(read_playbook(text), kinds=kinds)


def read_playbook(text: str) -> Document:
    """The document in today's forms, with a warning for each older one; raises InvalidPlaybook if it is unreadable."""
    try:
        document = read_document(text)
        kind = document.root.get("kind") if isinstance(document.root, dict) else None
        # other documents have no older forms
        return document if kind in RESOURCES and kind not in EXECUTABLE else rewrite(document)
    except Unreadable as unreadable:
        raise problem([unreadable.fault]) from None


def playbook_data(text: str) -> Any:
    """What its document says, as plain data, in today's forms; raises InvalidPlaybook if it is unreadable."""
    return plain_data(read_playbook(text).root)


def load_document(
    document: Document, *, kinds: Collection[str] = BUILTIN_KINDS, strict: bool = False
) -> LoadedPlaybook:
    """`strict`: older forms are faults. Raises InvalidPlaybook with all faults."""
    faults = Faults(document, strict=strict)
    playbook = validate(document, faults)
    if playbook is None:
        raise problem(faults.sorted())
    semantics.check(playbook, kinds, faults)
    plan = compile.build(playbook, faults, _defined)
    faults.raise_if_any()
    return LoadedPlaybook(document=document, playbook=playbook, plan=plan)


def _defined(text: str) -> Definition:
    """The definition of a tool that a playbook calls."""
    # few playbooks call one
    from .definition import load_definition

    document = read_playbook(text)
    kind = document.value(("tool", "kind"))
    # that it is known was checked when the tool was registered
    return load_definition(document, kinds=BUILTIN_KINDS | ({kind} if isinstance(kind, str) else frozenset()))


def load_plan(text: str, *, kinds: Collection[str] = BUILTIN_KINDS) -> Plan:
    """Raises InvalidPlaybook with all faults."""
    return load_playbook(text, kinds=kinds).plan
