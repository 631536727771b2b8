"""Where in a template's text something is, which its syntax tree knows only by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jinja2 import Environment
from jinja2.exceptions import TemplateSyntaxError

_BEGINS = frozenset({"variable_begin", "block_begin"})
_ENDS = frozenset({"variable_end", "block_end"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: str
    line: int
    # from 1
    column: int


def find_place(environment: Environment, source: str, lineno: int | None, name: str | None) -> tuple[int, int]:
    """Line and column, from 1, of `name` in the expression or statement at line `lineno`, or of the first one that has
    it; without a name, or if it is written nowhere, of what begins nearest to that line."""
    tokens = list(_tokens(environment, source))
    groups = [group for group in _groups(tokens) if lineno is None or group[0].line <= lineno <= group[-1].line]
    if name:
        for group in (*groups, tokens):
            if (found := _find_name(group, name)) is not None:
                return found.line, found.column
    first = next((group[0] for group in groups), None)
    return (first.line, first.column) if first is not None else (lineno or 1, 1)


def _find_name(tokens: Sequence[_Token], name: str) -> _Token | None:
    for token in tokens:
        if token.kind == "name" and token.value == name:
            return token
        if token.kind == "string" and token.value[1:-1] == name:
            return token
    return None


def _groups(tokens: Sequence[_Token]) -> Iterator[Sequence[_Token]]:
    """Each expression or statement, with its braces."""
    begins = [index for index, token in enumerate(tokens) if token.kind in _BEGINS]
    for begin, next_one in pairwise((*begins, len(tokens))):
        ends = (index for index in range(begin, next_one) if tokens[index].kind in _ENDS)
        yield tokens[begin : next(ends, next_one - 1) + 1]


def _tokens(environment: Environment, source: str) -> Iterator[_Token]:
    """The tokens that are no white space, up to one that is not valid."""
    at, line, start = 0, 1, 0
    try:
        for _, kind, value in environment.lexer.tokeniter(source, None):
            found = source.find(value, at)
            if found < 0:
                return
            line += source.count("\n", at, found)
            start = source.rfind("\n", 0, found) + 1
            if kind != "whitespace":
                yield _Token(kind, value, line, found - start + 1)
            line += value.count("\n")
            at = found + len(value)
    except TemplateSyntaxError:
        return
