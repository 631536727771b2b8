"""`{{ token(NAME) }}` of older playbooks: an access token of the Google service account that a credential holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..document import ListNode, MapNode, Mark
from ..template import has_markers
from .edits import Edits, Place, copied

KIND: Final = "google_access_token"
# up to the next one, so that however many begin, the text is read once
_EXPRESSION: Final = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}", re.DOTALL)
_CALL: Final = re.compile(r"""(?<![\w.])token\(\s*(?:(['"])([\w-]{1,80})\1|(?:workload\.)?([A-Za-z_]\w{0,79}))\s*\)""")


class Tokens:
    """Each call becomes an entry of the keychain, and what reads it."""

    def __init__(self, edits: Edits, root: Any) -> None:
        """`root`: of the playbook, whose workload may name the credential."""
        self.edits = edits
        keychain = root.get("keychain") if isinstance(root, MapNode) else None
        workload = root.get("workload") if isinstance(root, MapNode) else None
        self._workload: Mapping[str, Any] = workload if isinstance(workload, MapNode) else {}
        entries = keychain if isinstance(keychain, ListNode) else []
        self._known = {
            entry["name"]: entry
            for entry in entries
            if isinstance(entry, MapNode) and isinstance(entry.get("name"), str)
        }
        # name -> the entry, and where its call stands
        self._made: dict[str, tuple[MapNode, Place, Mark]] = {}

    def of_tool(self, node: Any, at: Place) -> Any:
        """The tool with its calls replaced, at any depth."""
        if isinstance(node, MapNode):
            for key, value in list(node.items()):
                if (new := self._value(value, (*at, key), node.value_marks[key])) is not value:
                    node = node.having(key, new, *node.marks_of(key))
        elif isinstance(node, ListNode):
            values = [self._value(value, (*at, n), node.marks[n]) for n, value in enumerate(node)]
            changed = {n: value for n, value in enumerate(values) if value is not node[n]}
            return copied(node, changed) if changed else node
        return node

    def of_playbook(self, root: Any) -> Any:
        """The playbook with the entries that the calls of its tools have become."""
        keychain = root.get("keychain") if self._made else None
        if not self._made or not isinstance(keychain, ListNode | None):
            return root
        mark = next(iter(self._made.values()))[2]
        entries = copied(keychain or ListNode(mark), {})
        entries.marks = list(entries.marks)
        for entry, at, where in self._made.values():
            self.edits.moved[("keychain", len(entries))] = at
            entries.append(entry)
            entries.marks.append(where)
        return root.having("keychain", entries, *(root.marks_of("keychain") if keychain is not None else (mark, mark)))

    def _value(self, value: Any, at: Place, mark: Mark) -> Any:
        if not isinstance(value, str):
            return self.of_tool(value, at)
        if "token(" not in value or not has_markers(value):
            return value

        def read(call: re.Match[str]) -> str:
            before = call.string[: call.start()]
            in_quotes = any(before.count(quote) % 2 for quote in "'\"")
            name = None if in_quotes else self._entry(call[2], call[3], at, mark)
            return call[0] if name is None else f"keychain.{name}.token"

        return _EXPRESSION.sub(lambda expression: _CALL.sub(read, expression[0]), value)

    def _entry(self, credential: str | None, key: str | None, at: Place, mark: Mark) -> str | None:
        """The name of the entry for a credential: as it is written, or as a key of the workload names it; None if
        something else could be meant."""
        named = credential or self._workload.get(key or "")
        if not isinstance(named, str) or has_markers(named) or _stands_for_another(self._known.get(named)):
            return None
        name = re.sub(r"\W", "_", f"{credential or key}_token")
        auth = credential or f"{{{{ workload.{key} }}}}"
        if name in self._made:
            return name if self._made[name][0]["auth"] == auth else None
        if name in self._known:
            return None
        entry = MapNode(mark)
        for field, value in (("name", name), ("kind", KIND), ("auth", auth)):
            entry = entry.having(field, value, mark, mark)
        self._made[name] = (entry, self.edits.origin(at), mark)
        message = f'add {{name: {name}, kind: {KIND}, auth: "{auth}"}} to the keychain'
        self.edits.warn_at(f"{message} and write {{{{ keychain.{name}.token }}}}", at, mark)
        return name


def _stands_for_another(entry: Any) -> bool:
    """Whether an entry stands for a credential of another name."""
    return entry is not None and any(key in entry and entry[key] != entry["name"] for key in ("ref", "credential"))
