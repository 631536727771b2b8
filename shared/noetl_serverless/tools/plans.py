"""Compiles and lints playbooks with all tool kinds that are installed on this machine, those of users included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import Fault, InvalidPlaybook
from ..playbook import load as language
from ..playbook.document import Document
from ..playbook.grammar import BUILTIN_KINDS
from ..playbook.load import LoadedPlaybook
from ..playbook.plan import Plan
from . import registry, task_fields

if TYPE_CHECKING:
    from ..playbook.lint import Finding

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
    return language.load_plan(text, kinds=known_kinds())


def load_checked(text: str, *, strict: bool = False) -> LoadedPlaybook:
    """`strict`: older forms are wrong, too. Raises InvalidPlaybook with all that is wrong, in the language and in the
    fields of the tools; also if it is a document of the catalog that is no playbook."""
    _, loaded, faults = _checked(text, strict=strict)
    if loaded is None or faults:
        raise InvalidPlaybook(str(faults[0]), faults=faults)
    return loaded


def lint(text: str, more: Callable[[LoadedPlaybook], Sequence[Fault]] = lambda loaded: ()) -> list[Finding]:
    """The errors that registration refuses, then the warnings: all if the document compiles, otherwise those of older
    forms; each by line. `more`: what else to warn about."""
    # no function needs it
    from ..playbook import lint as linting
    from . import resources

    if resources.kind_of(text) is not None:
        return resources.lint(text, kinds=known_kinds())
    document, loaded, faults = _checked(text, strict=False)
    found = linting.findings(faults, "error")
    if loaded is not None:
        return [*found, *linting.warnings(loaded), *linting.findings(more(loaded), "warning")]
    return found if document is None else [*found, *linting.findings(document.warnings, "warning")]


def _checked(text: str, *, strict: bool) -> tuple[Document | None, LoadedPlaybook | None, list[Fault]]:
    """No document if it cannot be read, no playbook if it does not compile; the faults are by line."""
    try:
        document = language.read_playbook(text)
    except InvalidPlaybook as unreadable:
        return None, None, list(unreadable.faults)
    return document, *_checked_document(document, strict=strict)


def _checked_document(document: Document, *, strict: bool) -> tuple[LoadedPlaybook | None, list[Fault]]:
    loaded: LoadedPlaybook | None = None
    faults: list[Fault] = []
    try:
        loaded = language.load_document(document, kinds=known_kinds(), strict=strict)
    except InvalidPlaybook as invalid:
        faults += invalid.faults or [Fault(invalid.detail)]
    faults += task_fields.faults_of(document, {fault.pointer for fault in faults})
    return loaded, sorted(faults, key=lambda fault: (fault.line or 0, fault.column or 0))


def known_kinds() -> frozenset[str]:
    """The kinds of tools that are installed on this machine, those of the language included."""
    return BUILTIN_KINDS.union(registry.kinds())
