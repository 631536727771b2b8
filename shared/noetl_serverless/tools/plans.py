"""Playbooks compiled, and linted, with every tool kind there is on this machine, those that users added included."""

from __future__ import annotations

from ..playbook import lint as linting
from ..playbook import load as language
from ..playbook.document import Document
from ..playbook.grammar import BUILTIN_KINDS
from ..playbook.load import LoadedPlaybook
from ..playbook.plan import Plan
from . import registry

# A longer text is compiled in a thread, for nothing else would run meanwhile. A short one, of some 25 ms at most, would
# take far longer there: beside steps that run speculatively a thread has to wait for the interpreter, half a second for
# what takes 5 ms
SHORT_CHARACTERS = 8_000
# before the name of what is written once and stands in many places: how much that comes to is not seen by its length
ANCHOR = "&"


def is_slow_to_compile(text: str) -> bool:
    """Whether it belongs in a thread, so that the event loop goes on meanwhile."""
    return len(text) > SHORT_CHARACTERS or ANCHOR in text


def load_plan(text: str) -> Plan:
    """Raises InvalidPlaybook with all that is wrong."""
    return language.load_plan(text, kinds=_kinds())


def load_document(document: Document) -> LoadedPlaybook:
    """Raises InvalidPlaybook with all that is wrong."""
    return language.load_document(document, kinds=_kinds())


def lint(text: str) -> list[linting.Finding]:
    """The errors, or if there are none the warnings, by line."""
    return linting.lint(text, kinds=_kinds())


def _kinds() -> frozenset[str]:
    return BUILTIN_KINDS.union(registry.kinds())
