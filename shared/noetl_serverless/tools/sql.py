"""SQL with parameters: its statements and placeholders, with quoted text and comments recognised as such.

A placeholder is `%(name)s`; `%%` is a percent sign. Values are bound, never written into the SQL. A placeholder inside
'quoted text' makes that whole text one bound value: `'%(a)s-%(b)s'` is bound as the text of a, a dash, the text of b.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..playbook.sql_text import NAMES, parts
from .encoding import encode

# %%(__1)s is a percent sign before a template's placeholder, because authors do not double it there
_MARK = re.compile(r"%\((?P<name>[^()\s]+)\)s|%%(?!\(__\d+\)s)")
_MARK_OR_END = re.compile(rf"{_MARK.pattern}|(?P<end>;)")


class SqlError(ValueError):
    """The SQL is not valid, or does not match its parameters."""


@dataclass(slots=True)
class Statement:
    """One statement, with the dialect's own placeholders."""

    text: str = ""
    # placeholder name -> value, in the order of first use
    values: dict[str, Any] = field(default_factory=dict)
    # the text with white space in place of its comments
    bare: str = ""

    @property
    def is_empty(self) -> bool:
        return not self.bare.strip()

    @property
    def words(self) -> list[str]:
        """Its first few words, in capitals."""
        return self.bare.upper().split(None, 4)[:4]

    @property
    def verb(self) -> str:
        """Its first word, in capitals."""
        return self.words[0].rstrip("(") if self.words else ""


def statements(sql: str, params: Mapping[str, Any], placeholder: Callable[[int, str], str]) -> list[Statement]:
    """The statements in `sql`; `placeholder(position from 1, name)` writes one. SqlError for an unknown parameter."""
    reader = _Reader(sql, params, placeholder)
    return [statement for statement in reader.read() if not statement.is_empty]


def numbered(position: int, name: str) -> str:
    """A placeholder of PostgreSQL."""
    return f"${position}"


def named(position: int, name: str) -> str:
    """A placeholder of DuckDB."""
    return f"${name}"


class _Reader:
    def __init__(self, sql: str, params: Mapping[str, Any], placeholder: Callable[[int, str], str]) -> None:
        self._sql = sql
        self._params = params
        self._placeholder = placeholder
        self._found: list[Statement] = []
        self._statement = Statement()
        self._composed = 0
        # without any placeholder a percent sign needs no doubling
        self._doubled = any(match["name"] for match in _MARK.finditer(sql))

    def read(self) -> list[Statement]:
        for part in parts(self._sql):
            token = self._sql[part.start : part.end]
            if not part.closed:
                raise SqlError(f"{NAMES[part.kind]} not closed")
            match part.kind:
                case "sql":
                    self._plain(token)
                case "comment":
                    self._add(token, bare=" ")
                case "text":
                    self._text(token)
                case _:
                    self._refuse_marks(token)
        return [*self._found, self._statement]

    def _plain(self, text: str) -> None:
        at = 0
        for match in _MARK_OR_END.finditer(text):
            self._add(text[at : match.start()])
            at = match.end()
            if match["end"]:
                self._found.append(self._statement)
                self._statement = Statement()
            elif name := match["name"]:
                self._bind(name, self._value(name))
            else:
                self._add("%" if self._doubled else match.group())
        self._add(text[at:])

    def _add(self, text: str, bare: str | None = None) -> None:
        self._statement.text += text
        self._statement.bare += text if bare is None else bare

    def _bind(self, name: str, value: Any) -> None:
        values = self._statement.values
        values.setdefault(name, value)
        self._add(self._placeholder(list(values).index(name) + 1, name))

    def _value(self, name: str) -> Any:
        try:
            return self._params[name]
        except KeyError:
            known = ", ".join(sorted(self._params)) or "none"
            raise SqlError(f"no value for the parameter %({name})s; given parameters: {known}") from None

    def _text(self, token: str) -> None:
        if not self._doubled or "%" not in token:
            self._add(token)
            return
        if not any(match["name"] for match in _MARK.finditer(token)):
            self._add(token.replace("%%", "%"))
            return
        content = token[1:-1].replace("''", "'")
        value = _MARK.sub(lambda match: _as_text(self._value(match["name"])) if match["name"] else "%", content)
        self._composed += 1
        self._bind(f"__text_{self._composed}", value)

    def _refuse_marks(self, token: str) -> None:
        if self._doubled:
            if any(match["name"] for match in _MARK.finditer(token)):
                raise SqlError("a parameter is not allowed inside \"...\", E'...' or $$...$$")
            token = token.replace("%%", "%")
        self._add(token)


def unique(names: list[str]) -> list[str]:
    """Column names, with a number appended to repeated ones, so that an object can hold them all."""
    seen: set[str] = set()
    found = []
    for name in names:
        count, candidate = 2, name
        while candidate in seen:
            candidate, count = f"{name}_{count}", count + 1
        seen.add(candidate)
        found.append(candidate)
    return found


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()
