"""Compiles and lints playbooks with all tool kinds that are installed on this machine, those of users included."""

from __future__ import annotations

from ..playbook import lint as linting
from ..playbook import load as language
from ..playbook.document import Document
from ..playbook.grammar import BUILTIN_KINDS
from ..playbook.load import LoadedPlaybook
from ..playbook.plan import Plan
from . import registry

# A longer text is compiled in a thread, because it would block the event loop. A short one takes some 25 ms at most,
# and would take far longer there: while steps run speculatively, a thread has to wait for the interpreter, half a
# second for what takes 5 ms
SHORT_CHARACTERS = 8_000
# marks a YAML node that is written once and used in many places: the length of the text does not show its size
ANCHOR = "&"


def is_slow_to_compile(text: str) -> bool:
    """Whether to compile it in a thread, so that the event loop is not blocked."""
    return len(text) > SHORT_CHARACTERS or ANCHOR in text


def load_plan(text: str) -> Plan:
    """Raises InvalidPlaybook with all that is wrong."""
    return language.load_plan(text, kinds=_kinds())


def load_document(document: Document, *, strict: bool = False) -> LoadedPlaybook:
    """`strict`: older forms are wrong, too. Raises InvalidPlaybook with all that is wrong."""
    return language.load_document(document, kinds=_kinds(), strict=strict)


def lint(text: str) -> list[linting.Finding]:
    """The errors, or if there are none the warnings, by line."""
    return linting.lint(text, kinds=_kinds())


def _kinds() -> frozenset[str]:
    return BUILTIN_KINDS.union(registry.kinds())
