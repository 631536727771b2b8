"""SQL with parameters: finds statements and placeholders where they really are, outside of text and comments.

A placeholder is `%(name)s`; `%%` is a percent sign. Values are bound, never written into the SQL. A placeholder inside
'quoted text' makes that whole text one bound value: `'%(a)s-%(b)s'` is bound as the text of a, a dash, the text of b.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .encoding import encode

_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n]*)
  | (?P<block>/\*)
  | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<text>'(?:[^']|'')*')
  | (?P<identifier>"(?:[^"]|"")*")
  | (?P<dollar>(?<![\w$])\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?P=tag)?\$)
  | %\((?P<name>[^()\s]+)\)s
  | (?P<percent>%%(?!\(__\d+\)s))
  | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
# %%(__1)s is a percent sign before a template's placeholder, for nobody doubles it there
_MARK = re.compile(r"%\((?P<name>[^()\s]+)\)s|%%(?!\(__\d+\)s)")
_COMMENT = re.compile(r"/\*|\*/")


class SqlError(ValueError):
    """The SQL and its parameters do not fit."""


@dataclass(slots=True)
class Statement:
    """One statement, with the dialect's own placeholders."""

    text: str = ""
    # placeholder name -> value, in the order of first use
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not _without_comments(self.text).strip()

    @property
    def verb(self) -> str:
        """Its first word, in capitals."""
        words = _without_comments(self.text).split(None, 1)
        return words[0].rstrip("(").upper() if words else ""


def statements(sql: str, params: Mapping[str, Any], placeholder: Callable[[int, str], str]) -> list[Statement]:
    """The statements in `sql`; `placeholder(position from 1, name)` writes one. SqlError for an unknown parameter."""
    reader = _Reader(sql, params, placeholder)
    return [statement for statement in reader.read() if not statement.is_empty]


def numbered(position: int, name: str) -> str:
    """PostgreSQL's way."""
    return f"${position}"


def named(position: int, name: str) -> str:
    """DuckDB's way."""
    return f"${name}"


class _Reader:
    def __init__(self, sql: str, params: Mapping[str, Any], placeholder: Callable[[int, str], str]) -> None:
        self._sql = sql
        self._params = params
        self._placeholder = placeholder
        self._statement = Statement()
        self._composed = 0
        # without any placeholder a percent sign needs no doubling
        self._doubled = any(match["name"] for match in _MARK.finditer(sql))

    def read(self) -> list[Statement]:
        found, at = [], 0
        while match := _TOKEN.search(self._sql, at):
            self._add(self._sql[at : match.start()])
            at = match.end()
            kind = match.lastgroup if match.lastgroup != "tag" else "dollar"
            token = match.group()
            if kind == "end":
                found.append(self._statement)
                self._statement = Statement()
            elif kind == "block":
                at = self._block_end(match.start())
                self._add(self._sql[match.start() : at])
            elif kind == "name":
                self._bind(match["name"], self._value(match["name"]))
            elif kind == "percent":
                self._add("%" if self._doubled else token)
            elif kind == "text":
                self._text(token)
            elif kind == "line":
                self._add(token)
            else:
                self._refuse_marks(token)
        self._add(self._sql[at:])
        return [*found, self._statement]

    def _add(self, text: str) -> None:
        self._statement.text += text

    def _bind(self, name: str, value: Any) -> None:
        values = self._statement.values
        values.setdefault(name, value)
        self._add(self._placeholder(list(values).index(name) + 1, name))

    def _value(self, name: str) -> Any:
        try:
            return self._params[name]
        except KeyError:
            known = ", ".join(sorted(self._params)) or "none"
            raise SqlError(f"no value for the parameter %({name})s; given are: {known}") from None

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
                raise SqlError("a parameter cannot stand inside \"...\", E'...' or $$...$$")
            token = token.replace("%%", "%")
        self._add(token)

    def _block_end(self, start: int) -> int:
        depth = 0
        for match in _COMMENT.finditer(self._sql, start):
            depth += 1 if match.group() == "/*" else -1
            if depth == 0:
                return match.end()
        raise SqlError("a comment is not closed")


def unique(names: list[str]) -> list[str]:
    """Column names with a number after those that occur again, so that an object can hold them all."""
    seen: set[str] = set()
    found = []
    for name in names:
        count, made = 2, name
        while made in seen:
            made, count = f"{name}_{count}", count + 1
        seen.add(made)
        found.append(made)
    return found


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()


def _without_comments(text: str) -> str:
    return re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
