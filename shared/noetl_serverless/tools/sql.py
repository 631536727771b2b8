"""SQL with parameters: its statements and placeholders, with quoted text and comments recognised as such.

A placeholder is `%(name)s`; `%%` is a percent sign. Values are bound, never written into the SQL; only an `Identifier`,
which is quoted, is. A placeholder inside '...', E'...' or $$...$$ makes that whole literal one bound text:
`'%(a)s-%(b)s'` is bound as the text of a, a dash, the text of b; a lone null stays null. The type of the text is left
to its place, as is that of a literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..playbook.sandbox import Identifier
from ..playbook.sql_places import NAME_NEEDED, has_prefix, why_not_in, words_of
from ..playbook.sql_text import NAMES, Kind, Part, contents, parts, unescaped
from .encoding import encode

# %%(__1)s is a percent sign before a template's placeholder, because authors do not double it there
_MARK = re.compile(r"%\((?P<name>[^()\s]+)\)s|%%(?!\(__\d+\)s)")
_PLAIN = re.compile(rf"{_MARK.pattern}|(?P<end>;)|(?P<open>(?:(?P<called>[^\W\d]\w*)\s*)?\()|(?P<close>\))")
# PostgreSQL takes only a literal after the name of its type, so that DATE '...' becomes CAST($1 AS date)
_TYPED = re.compile(
    r"""(?<![\w$.":])(?P<type>
        (?: timestamp | time ) (?: \s* \(\s*\d\s*\) )? (?: \s+ with(?:out)? \s+ time \s+ zone )?
      | interval | date | timestamptz | timetz | jsonb? | uuid | numeric | decimal | int[248]? | integer | bigint
      | smallint | float[48] | real | bool(?:ean)? | bytea | inet | cidr | macaddr | point
    )\s*\Z""",
    re.VERBOSE | re.IGNORECASE,
)
# in DuckDB: of a value of a template, or of a literal with one
_OWN_PLACEHOLDER = re.compile(r"\$__(?:text_)?\d+\b")
# characters that are looked at before a value, and at the beginning of a statement
_TAIL = 200
# pieces of a call, at most, that is compared with others
_PIECES = 100
_UNIT = re.compile(r"\s*\b((?:year|month|day|hour|minute|second)s?)\b(?!\s+to\b)", re.IGNORECASE)
_NATIONAL = re.compile(r"(?<![\w$])[nN]\Z")
_NEXT = re.compile(r"\s*[,)]")
_IS_NULL = re.compile(r"\s+IS\s+(?:NOT\s+)?NULL\b", re.IGNORECASE)
# what may stand before a value that is by itself
_ALONE = re.compile(
    r"(?:^|[(,;]|\b(?:select|where|and|or|not|when|on|having|then|else|case|by|filter|returning))\s*\Z", re.IGNORECASE
)
# functions of PostgreSQL with arguments of any type, of which a parameter must have one
_OF_ANY_TYPE = frozenset(
    {
        *("concat", "concat_ws", "format", "row", "count", "pg_typeof", "pg_column_size", "num_nulls", "num_nonnulls"),
        *("json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array"),
        *("json_object_agg", "jsonb_object_agg"),
    }
)
# what may stand before a parenthesis and is no function
_NO_CALLS = frozenset(
    {
        *("", "all", "and", "any", "as", "between", "by", "case", "else", "exists", "from", "in", "into", "like"),
        *("not", "on", "or", "select", "some", "then", "using", "values", "when", "where"),
    }
)
# an odd number of them
_BACKSLASH = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")


# a server's syntax error at a parameter
_AT_PARAMETER = re.compile(r'at or near "\$\w*"')


def name_needed(message: str) -> str:
    """The advice after a server's message about a value that was bound where SQL needs a name, or nothing."""
    return f"; {NAME_NEEDED}" if _AT_PARAMETER.search(message) else ""


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


@dataclass(slots=True)
class _Bound:
    """A value in the text of a statement; `kind`: the type that it is cast to, if any."""

    name: str
    value: Any
    kind: str


@dataclass(slots=True)
class _OpenCall:
    """An open parenthesis: the name before it, if any, and the piece of the statement that it begins with."""

    name: str
    start: int


class _Pieces:
    """The text of a statement as it grows: pieces of SQL, and the values between them."""

    def __init__(self) -> None:
        self.all: list[str | _Bound] = []

    def tail(self) -> str:
        """The last characters, as many as anything looks back; a value counts as a parameter."""
        found, length = [], 0
        for piece in reversed(self.all):
            text = piece if isinstance(piece, str) else "$0"
            found.append(text[-_TAIL:])
            length += len(text)
            if length >= _TAIL:
                break
        return "".join(reversed(found))[-_TAIL:]

    def drop(self, count: int) -> None:
        """Take the last characters away again."""
        while count:
            piece = self.all.pop()
            assert isinstance(piece, str)
            if len(piece) > count:
                self.all.append(piece[:-count])
            count -= min(count, len(piece))

    def statement(self, placeholder: Callable[[int, str], str], bare: str) -> Statement:
        found: list[str] = []
        values: dict[str, Any] = {}
        positions: dict[str, int] = {}
        before: str | _Bound = ""
        for piece in self.all:
            if not piece:
                continue
            text = piece
            if isinstance(piece, _Bound):
                values.setdefault(piece.name, piece.value)
                mark = placeholder(positions.setdefault(piece.name, len(positions) + 1), piece.name)
                text = f"CAST({mark} AS {piece.kind})" if piece.kind else mark
            assert isinstance(text, str)
            if _Bound in (type(before), type(piece)) and found and _runs_on(found[-1][-1]) and _runs_on(text[0]):
                found.append(" ")
            found.append(text)
            before = piece
        return Statement("".join(found), values, bare)


class _Reader:
    def __init__(self, sql: str, params: Mapping[str, Any], placeholder: Callable[[int, str], str]) -> None:
        self._sql = sql
        self._params = params
        self._placeholder = placeholder
        self._found: list[Statement] = []
        self._pieces = _Pieces()
        self._bare: list[str] = []
        # the first characters of the statement without comments, which tell what it is
        self._start = ""
        self._composed = 0
        self._calls: list[_OpenCall] = []
        # a call as it stands, with its values -> the names of these
        self._equal: dict[str, list[str]] = {}
        # up to where the SQL is read already
        self._at = 0
        # without any placeholder a percent sign needs no doubling
        self._doubled = any(match["name"] for match in _MARK.finditer(sql))

    def read(self) -> list[Statement]:
        for part in parts(self._sql):
            if not part.closed:
                raise SqlError(f"{NAMES[part.kind]} not closed")
            token = self._sql[part.start : part.end]
            match part.kind:
                case "sql":
                    self._plain(part.start, part.end)
                case "comment":
                    # what stands for a value never reaches the server
                    self._add(" " if self._has_marks(token) else token, bare=" ")
                case "text" | "escaped" | "dollar":
                    self._literal(token, part)
                case "identifier":
                    if self._has_marks(token):
                        raise SqlError('a parameter is not allowed inside "..."')
                    self._add(token.replace("%%", "%") if self._doubled else token)
        self._end_statement()
        return self._found

    def _has_marks(self, token: str) -> bool:
        return self._doubled and any(match["name"] for match in _MARK.finditer(token))

    def _plain(self, start: int, end: int) -> None:
        at = max(start, self._at)
        for match in _PLAIN.finditer(self._sql, at, end):
            if match.start() < at:
                continue
            self._add(self._sql[at : match.start()])
            at = self._mark(match["name"], match.end()) if match["name"] else match.end()
            match match.lastgroup:
                case "end":
                    self._end_statement()
                case "open":
                    self._calls.append(_OpenCall((match["called"] or "").lower(), len(self._pieces.all)))
                    self._add(match.group())
                case "close":
                    self._add(")")
                    if self._calls:
                        self._share(self._calls.pop())
                case None:
                    self._add("%" if self._doubled else match.group())
        self._add(self._sql[at:end])

    def _end_statement(self) -> None:
        self._found.append(self._pieces.statement(self._placeholder, "".join(self._bare)))
        self._pieces, self._bare, self._start = _Pieces(), [], ""
        self._calls.clear()
        self._equal.clear()

    def _add(self, text: str, bare: str | None = None) -> None:
        self._pieces.all.append(text)
        self._add_bare(text if bare is None else bare)

    def _add_bare(self, text: str) -> None:
        self._bare.append(text)
        if len(self._start) < _TAIL:
            self._start = (self._start + text).lstrip()[:_TAIL]

    def _mark(self, name: str, end: int) -> int:
        """Bind the value of a placeholder outside of quotes; returns up to where the SQL is read."""
        value = self._value(name)
        if isinstance(value, Identifier):
            self._add(str(value))
            return end
        return self._bind(name, value, end)

    def _bind(self, name: str, value: Any, end: int) -> int:
        tail = self._pieces.tail()
        typed = _TYPED.search(tail)
        kind = ""
        if typed is not None:
            kind = " ".join(typed["type"].split())
            self._pieces.drop(len(typed.group()))
            unit = _UNIT.match(self._sql, end) if kind.lower() == "interval" else None
            if unit is not None:
                value, end = None if value is None else f"{_as_text(value)} {unit[1]}", unit.end()
        elif (value is None or isinstance(value, str)) and self._has_no_type(tail, end):
            kind = "text"
        self._pieces.all.append(_Bound(name, value, kind))
        self._add_bare("$0")
        return end

    def _has_no_type(self, tail: str, end: int) -> bool:
        """Whether nothing gives a text at this place its type: as an argument of a function that takes any type, or by
        itself before IS NULL."""
        if _IS_NULL.match(self._sql, end) is not None:
            return _ALONE.search(tail) is not None
        if not self._calls or self._calls[-1].name not in _OF_ANY_TYPE:
            return False
        return tail.rstrip()[-1:] in ("(", ",") and _NEXT.match(self._sql, end) is not None

    def _share(self, call: _OpenCall) -> None:
        """Give a call the parameters of an equal one: the server has to see that they are equal, for GROUP BY."""
        # calls of very many pieces are not compared, which would take a time that grows with their square
        if len(self._pieces.all) - call.start > _PIECES or call.name in _NO_CALLS:
            return
        pieces = self._pieces.all[call.start :]
        bound = [piece for piece in pieces if isinstance(piece, _Bound)]
        if not bound or not all(isinstance(piece.value, str) for piece in bound):
            return
        key = "".join(
            piece if isinstance(piece, str) else f"\0{piece.kind}\0{len(piece.value)}\0{piece.value}"
            for piece in pieces
        )
        for piece, name in zip(bound, self._equal.setdefault(key, [piece.name for piece in bound]), strict=True):
            piece.name = name

    def _value(self, name: str) -> Any:
        try:
            return self._params[name]
        except KeyError:
            known = ", ".join(sorted(self._params)) or "none"
            raise SqlError(f"no value for the parameter %({name})s; given parameters: {known}") from None

    def _literal(self, token: str, part: Part) -> None:
        if not self._has_marks(token):
            self._add(token.replace("%%", "%") if self._doubled else token)
            return
        tail = self._pieces.tail()
        reason = why_not_in(words_of(self._start))
        if reason is None and part.kind == "text" and has_prefix(tail):
            reason = "no value can be bound in B'...', X'...' or U&'...'"
        if reason is not None:
            raise SqlError(reason)
        if _NATIONAL.search(tail):
            self._pieces.drop(1)
        self._composed += 1
        self._at = self._bind(f"__text_{self._composed}", self._composed_text(token, part.kind), part.end)

    def _composed_text(self, token: str, kind: Kind) -> str | None:
        """The text of the literal, its placeholders replaced by the texts of their values."""
        found: list[str | None] = []
        for content in contents(token, kind):
            at = 0
            for match in _MARK.finditer(content):
                before = content[at : match.start()]
                if kind == "escaped" and _BACKSLASH.search(before):
                    if match["name"]:
                        raise SqlError("a backslash right before a placeholder")
                    before = before[:-1]
                found.append(_unescaped(before, kind))
                value = self._value(match["name"]) if match["name"] else "%"
                found.append(None if value is None else _as_text(value))
                at = match.end()
            found.append(_unescaped(content[at:], kind))
        if None in found and not any(found) and len(found) == 3:
            return None
        return "".join(text or "" for text in found)


def _unescaped(content: str, kind: Kind) -> str:
    try:
        return unescaped(content, kind)
    except ValueError as error:
        raise SqlError(f"an escape in E'...' is not valid: {error}") from None


def _runs_on(character: str) -> bool:
    """Whether a placeholder beside it would run together with it."""
    return character.isalnum() or character in ("_", "$")


def without_placeholders(name: str) -> str:
    """The name of a column, which in DuckDB is its expression if it has no alias, with a question mark for each value
    of a template: `(? + 1)` for `($__1 + 1)`. A parameter that an author has named keeps its name."""
    return _OWN_PLACEHOLDER.sub("?", name)


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
