"""Secrets that older playbooks name where they use them, as entries of the keychain.

`{{ token(NAME) }}` is an access token of the Google service account that a credential holds; `auth: {NAME: {provider:
secret_manager, ...}}` of http a secret that such an account may read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias

from jinja2 import TemplateSyntaxError

from ..bounds import MAX_SOURCE_CHARACTERS
from ..document import ListNode, MapNode, Mark, walk
from ..part import NAME_PATTERN
from ..sandbox import TEXT
from ..template import has_markers
from .edits import Edits, Place, copied, value_at
from .names import key_of_workload, names_in

_KIND: Final = "google_access_token"
_PROVIDED: Final = frozenset({"type", "provider", "key", "oauth_credential"})
_CREDENTIAL: Final = re.compile(r"""(['"])([A-Za-z_][A-Za-z0-9_-]{0,79})\1""")
# (line, type, text) of jinja2's lexer
Lexeme: TypeAlias = tuple[int, str, str]


class Secrets:
    """Each becomes an entry of the keychain, and what reads it."""

    def __init__(self, edits: Edits, root: Any) -> None:
        """`root`: of the playbook, whose workload may name the credential."""
        self.edits = edits
        self._root = root
        workload, keychain = value_at(root, ("workload",)), value_at(root, ("keychain",))
        self._workload: Mapping[str, Any] = workload if isinstance(workload, MapNode) else {}
        self._known: dict[str, Any] = {}
        for entry in keychain if isinstance(keychain, ListNode) else []:
            if isinstance(entry, MapNode) and isinstance(entry.get("name"), str):
                self._known[entry["name"]] = entry
        # name -> the entry, and where its first call stands
        self._made: dict[str, tuple[MapNode, Place, Mark]] = {}
        # a text that is written once and used in many places
        self._replaced: dict[str, str] = {}

    def of_part(self, node: Any, at: Place) -> Any:
        """A part of a task with the calls in it replaced, at any depth."""
        if isinstance(node, MapNode):
            changed = {
                key: new
                for key, value in node.items()
                if (new := self._value(value, (*at, key), node.value_marks[key])) is not value
            }
            return node.having_all(changed) if changed else node
        if isinstance(node, ListNode):
            values = [self._value(value, (*at, n), node.marks[n]) for n, value in enumerate(node)]
            items = {n: value for n, value in enumerate(values) if value is not node[n]}
            return copied(node, items) if items else node
        return node

    def of_playbook(self, root: Any) -> Any:
        """The playbook with the entries that the calls of its tasks have become."""
        keychain = value_at(root, ("keychain",))
        if not self._made or not isinstance(keychain, ListNode | None):
            return root
        mark = next(iter(self._made.values()))[2]
        entries = copied(keychain if keychain is not None else ListNode(mark), {})
        entries.marks = list(entries.marks)
        for entry, at, where in self._made.values():
            self.edits.moved[("keychain", len(entries))] = at
            entries.append(entry)
            entries.marks.append(where)
        return root.having("keychain", entries, *(root.marks_of("keychain") if keychain is not None else (mark, mark)))

    def _value(self, value: Any, at: Place, mark: Mark) -> Any:
        if not isinstance(value, str):
            return self.of_part(value, at)
        if "token" not in value or not has_markers(value) or len(value) > MAX_SOURCE_CHARACTERS:
            return value
        if value not in self._replaced:
            self._replaced[value] = self._text(value, at, mark)
        return self._replaced[value]

    def _text(self, text: str, at: Place, mark: Mark) -> str:
        try:
            lexemes: list[Lexeme] = list(TEXT.lex(text))
        except TemplateSyntaxError:
            # the compiler says so
            return text
        pieces, end = [], 0
        for start, stop, argument in _calls(lexemes):
            if (name := self._entry(argument, at, mark)) is not None:
                pieces += [piece for _, _, piece in lexemes[end:start]]
                # what follows stays in its line
                breaks = sum(piece.count("\n") for _, _, piece in lexemes[start:stop])
                pieces.append(f"keychain.{name}.token{chr(10) * breaks}")
                end = stop
        return "".join([*pieces, *(piece for _, _, piece in lexemes[end:])]) if end else text

    def _entry(self, argument: list[str], at: Place, mark: Mark) -> str | None:
        """The name of the entry for the credential that the argument names, as a text or as a key of the workload; None
        if something else could be meant."""
        key = argument[-1]
        quoted = _CREDENTIAL.fullmatch(key)
        named = quoted[2] if quoted else self._workload.get(key)
        if not isinstance(named, str) or has_markers(named) or _stands_for_another(self._known.get(named)):
            return None
        if not quoted and len(argument) == 1 and key in self._nearer_names:
            return None
        name = f"{named.replace('-', '_') if quoted else key}_token"
        auth = named if quoted else f"{{{{ workload.{key} }}}}"
        is_there = self._add(name, {"kind": _KIND, "auth": auth}, at, mark, f"write {{{{ keychain.{name}.token }}}}")
        return name if is_there else None

    def of_auth(self, auth: Any, at: Place) -> Any:
        """`{NAME: {type, provider: secret_manager, key, oauth_credential}}` as {credential: NAME, type: bearer}."""
        if not isinstance(auth, MapNode) or len(auth) != 1:
            return auth
        (name,) = auth
        given, mark = auth[name], auth.value_marks[name]
        if not isinstance(given, MapNode) or given.keys() != _PROVIDED or not re.fullmatch(NAME_PATTERN, name):
            return auth
        if (given["type"], given["provider"]) != ("bearer", "secret_manager"):
            return auth
        if name in self._credentials or not all(
            self._is_of_workload(given[key]) for key in ("key", "oauth_credential")
        ):
            return auth
        secret = MapNode(mark).having("token", given["key"], *given.marks_of("key"))
        fields = {"kind": "secret_manager", "provider": "gcp", "auth": given["oauth_credential"], "map": secret}
        if not self._add(name, fields, at, mark, f"write auth: {{credential: {name}, type: bearer}}"):
            return auth
        return MapNode(mark).having("credential", name, mark, mark).having("type", "bearer", mark, mark)

    @cached_property
    def _credentials(self) -> frozenset[str]:
        """The names of credentials that tools read, and that an entry of the name would replace."""
        texts = (pair for part in ("workflow", "workbook") for pair in walk(value_at(self._root, (part,))))
        return frozenset(str(text) for path, text in texts if path and path[-1] in ("auth", "credential"))

    def _is_of_workload(self, text: Any) -> bool:
        """Whether it is a plain text, or reads a key of the workload and can read nothing else."""
        if not isinstance(text, str) or not has_markers(text):
            return isinstance(text, str) and bool(text)
        key = key_of_workload(text)
        return key in self._workload and ("workload." in text or key not in self._nearer_names)

    def _add(self, name: str, fields: Mapping[str, Any], at: Place, mark: Mark, advice: str) -> bool:
        """Whether the keychain has such an entry now."""
        entry = MapNode(mark)
        for field, value in {"name": name, **fields}.items():
            entry = entry.having(field, value, mark, mark)
        if name in self._known or name in self._made:
            return bool(entry == (self._made[name][0] if name in self._made else self._known[name]))
        self._made[name] = (entry, self.edits.origin(at), mark)
        shown = ", ".join(f"{field}: {_shown(value)}" for field, value in entry.items())
        self.edits.warn_at(f"add {{{shown}}} to the keychain and {advice}", at, mark)
        return True

    @cached_property
    def _nearer_names(self) -> frozenset[str]:
        """What a template may mean by a name before a key of the workload."""
        return frozenset(name for part in ("workflow", "workbook") for name in names_in(value_at(self._root, (part,))))


def _calls(lexemes: list[Lexeme]) -> Iterator[tuple[int, int, list[str]]]:
    """The calls of `token`: from which lexeme to which, and the argument, as written: a text, NAME, or workload and
    NAME."""
    places = [n for n, (_, type_, _) in enumerate(lexemes) if type_ != "whitespace"]
    for at, place in enumerate(places):
        if lexemes[place][1:] != ("name", "token") or (at and lexemes[places[at - 1]][2] in (".", "|", "is")):
            continue
        texts = [lexemes[n][2] for n in places[at + 1 : at + 6]]
        types = [lexemes[n][1] for n in places[at + 1 : at + 6]]
        if texts[:1] == ["("] and texts[2:3] == [")"] and types[1] in ("string", "name"):
            yield place, places[at + 3] + 1, texts[1:2]
        elif texts[:3] == ["(", "workload", "."] and texts[4:] == [")"] and types[3] == "name":
            yield place, places[at + 5] + 1, [texts[1], texts[3]]


def _shown(value: Any) -> str:
    if isinstance(value, MapNode):
        # a secret itself may stand where the place of one should
        return "{" + ", ".join(f"{key}: ..." for key in value) + "}"
    return json.dumps(value[:200], ensure_ascii=False) if has_markers(value) else str(value)[:200]


def _stands_for_another(entry: Any) -> bool:
    """Whether an entry stands for a credential of another name."""
    return entry is not None and any(key in entry and entry[key] != entry["name"] for key in ("ref", "credential"))
