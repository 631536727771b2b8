"""The parts of a SQL text as PostgreSQL (and DuckDB, which has its grammar) reads it: plain SQL, text and names in
quotes, comments. The only parser of SQL here: it determines where values can be bound and where statements end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["sql", "text", "escaped", "identifier", "dollar", "comment"]

NAMES: dict[Kind, str] = {
    "sql": "SQL",
    "text": "quotes",
    "escaped": "quotes",
    "identifier": "double quotes",
    "dollar": "dollar quotes",
    "comment": "a comment",
}

# characters that continue a name: after one of them neither E'...' nor $$ begins
_PART = r"[\w$\x80-\U0010ffff]"
_OPENING = re.compile(
    rf"""
    (?P<line>--)
  | (?P<block>/\*)
  | (?P<escaped>(?<!{_PART})[eE]')
  | (?P<text>')
  | (?P<identifier>")
  | (?P<dollar>(?<!{_PART})\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
    """,
    re.VERBOSE,
)
_LINE = re.compile(r"[^\r\n]*")
_COMMENT = re.compile(r"/\*|\*/")
_TEXT = re.compile(r"[^']*(?:''[^']*)*'(?!')")
_ESCAPED = re.compile(r"[^'\\]*(?:(?:\\.|'')[^'\\]*)*'(?!')", re.DOTALL)
_IDENTIFIER = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
# text in quotes continues after white space with a line break, with the same kind of escapes
_CONTINUED = re.compile(r"(?P<space>(?:[ \t\r\n\f\v]|--[^\r\n]*[\r\n])+)'")
_BREAK = re.compile(r"[\r\n]")
_ESCAPE = re.compile(
    r"""
    ''
  | \\(?: (?P<octal>[0-7]{1,3}) | x(?P<hex>[0-9A-Fa-f]{1,2}) | u(?P<unicode>[0-9A-Fa-f]{4})
      | U(?P<wide>[0-9A-Fa-f]{8}) | (?P<any>.) )
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Part:
    """`text[start:end]`. One that is not closed reaches to the end of the text."""

    kind: Kind
    start: int
    end: int
    closed: bool = True


def parts(text: str) -> Iterator[Part]:
    """The parts of `text` in order, with nothing left out."""
    at = 0
    while opening := _OPENING.search(text, at):
        if opening.start() > at:
            yield Part("sql", at, opening.start())
        kind, end = _end(text, opening)
        yield Part(kind, opening.start(), len(text) if end is None else end, end is not None)
        at = len(text) if end is None else end
    if at < len(text):
        yield Part("sql", at, len(text))


def contents(token: str, kind: Kind) -> Iterator[str]:
    """What stands between the quotes of the literal `token`: for a continued one, between each pair of them."""
    if kind == "dollar":
        width = token.index("$", 1) + 1
        yield token[width:-width]
        return
    pattern = _ESCAPED if kind == "escaped" else _TEXT
    opening = re.compile("[eE]?'").match(token)
    while opening is not None:
        closing = pattern.match(token, opening.end())
        assert closing is not None
        yield token[opening.end() : closing.end() - 1]
        opening = _CONTINUED.match(token, closing.end())


def unescaped(content: str, kind: Kind) -> str:
    """The text that a part of a literal's content stands for. ValueError if an escape in it is no text."""
    if kind == "dollar":
        return content
    if kind == "text":
        return content.replace("''", "'")
    data = bytearray()
    at = 0
    for match in _ESCAPE.finditer(content):
        data += content[at : match.start()].encode()
        data += _escape(match)
        at = match.end()
    data += content[at:].encode()
    # an escaped pair of surrogates is one character
    text = data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    if "\0" in text:
        raise ValueError("the character NUL is not text")
    return text


def _escape(match: re.Match[str]) -> bytes:
    if code := match["octal"]:
        return bytes([int(code, 8) & 0xFF])
    if code := match["hex"]:
        return bytes([int(code, 16)])
    if code := match["unicode"] or match["wide"]:
        return chr(int(code, 16)).encode("utf-8", "surrogatepass")
    character = match["any"] or "'"
    return _CONTROL.get(character, character).encode()


def _end(text: str, opening: re.Match[str]) -> tuple[Kind, int | None]:
    """The kind of the part that `opening` begins, and its end, or None if it is not closed."""
    at = opening.end()
    match opening.lastgroup:
        case "line":
            return "comment", _after(_LINE, text, at)
        case "block":
            return "comment", _comment_end(text, at)
        case "escaped":
            return "escaped", _literal_end(_ESCAPED, text, at)
        case "text":
            return "text", _literal_end(_TEXT, text, at)
        case "identifier":
            return "identifier", _after(_IDENTIFIER, text, at)
        case _:
            end = text.find(opening.group(), at)
            return "dollar", None if end < 0 else end + len(opening.group())


def _after(pattern: re.Pattern[str], text: str, at: int) -> int | None:
    found = pattern.match(text, at)
    return found.end() if found else None


def _comment_end(text: str, at: int) -> int | None:
    """Comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return None


def _literal_end(pattern: re.Pattern[str], text: str, at: int) -> int | None:
    end = _after(pattern, text, at)
    while end is not None and (more := _CONTINUED.match(text, end)) and _BREAK.search(more["space"]):
        end = _after(pattern, text, more.end())
    return end
