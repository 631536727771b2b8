"""Compiles the entries of `keychain`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from . import keychain
from .document import Path, plain_data
from .faults import did_you_mean
from .plan import KeychainEntry
from .reads import Reads, merge
from .template import Tree, has_markers
from .trees import KEYCHAIN, Trees, templates_in

# what the templates of all entries may read, besides `workload` and what it holds
_NAMES: Final = frozenset({KEYCHAIN, "workload", "execution_id"})
# what those of some keys may read in addition
_NAMES_OF_KEY: Final[Mapping[str, frozenset[str]]] = {
    "endpoint": frozenset({"auth"}),
    "headers": frozenset({"auth"}),
    "data": frozenset({"auth"}),
    "map": frozenset({"response"}),
}
_COMMON_KEYS: Final = frozenset({"name", "kind", "scope", "auto_renew", "ttl"})


def fields_of(entries: Iterable[keychain.Entry]) -> dict[str, frozenset[str] | None]:
    """The fields of each entry by its name; None where they are not known before it is resolved."""
    return {entry.name: entry.fields for entry in entries}


def reads_of(entries: Mapping[str, KeychainEntry], names: Iterable[str]) -> Reads:
    """What the templates of these entries read, and of those that they need in turn."""
    return merge(entries[name].reads for name in closure(entries, names))


def closure(entries: Mapping[str, KeychainEntry], names: Iterable[str]) -> set[str]:
    """These entries and all that they need; names that are no entries, a fault elsewhere, are left out."""
    found: set[str] = set()
    waiting = [name for name in names if name in entries]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [need for need in entries[name].needs if need in entries]
    return found


class Keychain:
    """The compiled entries by name; faults go to those of `trees`."""

    def __init__(self, entries: Iterable[keychain.Entry], workload: Iterable[str], trees: Trees) -> None:
        """`workload`: its keys, which templates may also read without `workload`."""
        self._trees = trees
        self._add = trees.faults.add
        self._workload = frozenset(workload)
        self.entries: dict[str, KeychainEntry] = {}
        for index, entry in enumerate(entries):
            path = (KEYCHAIN, index)
            if entry.name in self.entries:
                message = f"there is another keychain entry named '{entry.name}'"
                self._add(message, (*path, "name"), "playbook.duplicate_name")
            self.entries[entry.name] = self._entry(entry, path)
            for key, message in keychain.conflicts(entry):
                self._add(message, (*path, key))
        self._refuse_cycles()

    def _entry(self, entry: keychain.Entry, path: Path) -> KeychainEntry:
        kind = keychain.kind_of(entry.model_dump()) or ""
        written = {key: getattr(entry, key) for key in type(entry).model_fields if key not in _COMMON_KEYS}
        config = {key: self._tree(kind, key, value, (*path, key)) for key, value in written.items()}
        reads = merge(template.reads for tree in config.values() for template in templates_in(tree))
        needs = reads.pop(KEYCHAIN, None) or frozenset()
        ttl = getattr(entry, "ttl", None)
        return KeychainEntry(
            name=entry.name,
            kind=kind,
            scope=getattr(entry, "scope", "local"),
            auto_renew=getattr(entry, "auto_renew", False),
            ttl=None if ttl is None else float(ttl),
            config=config,
            needs=needs,
            reads={name: parts for name, parts in reads.items() if name not in ("auth", "response")},
            sends_auth="auth" not in reads,
            place=self._trees.place(path),
        )

    def _tree(self, kind: str, key: str, value: Any, path: Path) -> Tree:
        if kind == "oauth2" and key == "map":
            value = {field: _of_response(source) for field, source in (value or {}).items()} or None
        tree = self._trees.tree(plain_data(value), path, secrets=True)
        names = _NAMES | _NAMES_OF_KEY.get(key, frozenset()) if kind == "oauth2" else _NAMES
        if kind == "callback":
            # the control plane renders it, which resolves no secrets
            names -= {KEYCHAIN}
        for template in templates_in(tree):
            for name in sorted(template.reads.keys() - names - self._workload):
                allowed = sorted(names)
                why = ", which is resolved apart from any step"
                if name == KEYCHAIN:
                    why = f" of kind {kind}, whose name is no secret"
                self._trees.faults.add_at(
                    f"'{name}' cannot be read in a keychain entry{why}: read {', '.join(allowed)}"
                    f"{did_you_mean(name, allowed)}",
                    path,
                    template.line,
                    template.place.column if template.place else None,
                    "playbook.invalid_value",
                )
        return tree

    def _refuse_cycles(self) -> None:
        for index, entry in enumerate(self.entries.values()):
            if entry.name in closure(self.entries, entry.needs):
                self._add(f"the keychain entry '{entry.name}' needs its own value", (KEYCHAIN, index))


def _of_response(source: str) -> str:
    """A field's name in the answer as the template that reads it."""
    if has_markers(source):
        return source
    return "{{ response" + "".join(f"[{part!r}]" for part in source.split(".")) + " }}"


def keychain_names(trees: Iterable[Tree]) -> frozenset[str]:
    """The entries that templates read."""
    found = [template.reads.get(KEYCHAIN) for tree in trees for template in templates_in(tree)]
    return frozenset().union(*(names for names in found if names))
