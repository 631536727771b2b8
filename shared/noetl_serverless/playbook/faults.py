"""Collects all faults of a document, so that the author sees them at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from ..errors import Fault, InvalidPlaybook
from .document import Document, MapNode, Path

# more than anybody reads
MAX_FAULTS = 100


class Faults:
    """The faults of one document."""

    def __init__(self, document: Document, *, strict: bool = False) -> None:
        """`strict`: its older forms are faults as well."""
        self.document = document
        self._found: dict[tuple[Any, ...], Fault] = {}
        for fault in (*document.faults, *(document.warnings if strict else ())):
            self._keep(fault)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, message: str, path: Path, code: str = "playbook.invalid_value", *, key: bool = False) -> None:
        self._keep(self.document.fault(message, path, code, key=key))

    def add_at(self, message: str, path: Path, line: int | None, column: int | None, code: str) -> None:
        """A fault inside a text of several lines."""
        self._keep(Fault(message, pointer=self.document.pointer(path), line=line, column=column, code=code))

    def take(self, faults: Iterable[Fault]) -> None:
        """Those of a part of the document that was checked by itself."""
        for fault in faults:
            self._keep(fault)

    def sort_keys(
        self,
        node: MapNode,
        known: Collection[str],
        legacy: Mapping[str, str],
        later: Collection[str],
        allows_extra: bool,
        holder: Callable[[str], str | None],
    ) -> MapNode:
        """`node` without the refused keys; each of them is added as a fault. `holder` gives the key whose object may
        have the one that is refused."""
        refused = set()
        for key in node:
            if key in known:
                continue
            if key in later:
                self._key_fault(node, key, f"'{key}' is not supported yet", "playbook.not_supported")
            elif key in legacy:
                self._key_fault(node, key, f"'{key}' is not part of the language: {legacy[key]}", "playbook.legacy")
            elif allows_extra:
                continue
            else:
                place = holder(key)
                hint = f"; write it below '{place}'" if place is not None else did_you_mean(key, known)
                self._key_fault(node, key, f"unknown key '{key}'{hint}", "playbook.unknown_key")
            refused.add(key)
        return node.without(refused) if refused else node

    def sorted(self) -> list[Fault]:
        return sorted(self._found.values(), key=lambda fault: (fault.line or 0, fault.column or 0))

    def raise_if_any(self) -> None:
        if self._found:
            raise problem(self.sorted())

    def _key_fault(self, node: MapNode, key: str, message: str, code: str) -> None:
        mark = node.key_marks.get(key, node.mark)
        path = _path_of(self.document.root, node) or ()
        pointer = self.document.pointer((*path, key))
        self._keep(Fault(message, pointer=pointer, line=mark.line, column=mark.column, code=code))

    def _keep(self, fault: Fault) -> None:
        if len(self._found) < MAX_FAULTS:
            self._found[fault.message, fault.line, fault.column] = fault


def problem(faults: Iterable[Fault]) -> InvalidPlaybook:
    listed = list(faults)
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    return InvalidPlaybook(f"{listed[0]}{more}", faults=listed)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _path_of(root: Any, wanted: MapNode) -> tuple[str | int, ...] | None:
    """The path of the object `wanted`; needed only for faults."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while stack:
        path, value = stack.pop()
        if value is wanted or (isinstance(value, MapNode) and value.value_marks is wanted.value_marks):
            return path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack.extend(((*path, key), item) for key, item in items if isinstance(item, (dict, list)))
    return None
