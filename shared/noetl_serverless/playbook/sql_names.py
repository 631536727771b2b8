"""Placeholders in SQL where only the name of a table can stand, which cannot be bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from jinja2 import nodes

from .sql_idioms import laid_out
from .sql_text import parts
from .template import SqlTemplate, has_markers

# what precedes a name, and may be the beginning of it
_BEFORE_NAME: Final = re.compile(
    r"(?<![\w.$])(?P<word>FROM|JOIN|INTO|UPDATE|TABLE)(?:\s+ONLY)?(?:\s+IF\s+(?:NOT\s+)?EXISTS)?\s+(?:[\w$]*\.)?\Z",
    re.IGNORECASE,
)
# after these, a value follows FROM
_DISTINCT: Final = re.compile(r"\bDISTINCT\s+FROM\s+\Z", re.IGNORECASE)
_FUNCTION: Final = re.compile(r"\b(?:extract|trim|substring|overlay|position)\s*\Z", re.IGNORECASE)
_COPY: Final = re.compile(r"\s*COPY\b", re.IGNORECASE)


def unnamed(template: SqlTemplate) -> Iterator[tuple[int, str]]:
    """(line in the template from 1, the word before) of each placeholder that stands where a name is needed, without
    `| identifier`."""
    if not has_markers(template.source):
        return
    text, placed = laid_out(template.syntax())
    waiting = iter(placed)
    one = next(waiting, None)
    statement = ""
    for part in parts(text):
        while one is not None and one.at < part.end:
            if part.kind == "sql":
                before = (statement + text[part.start : one.at]).rpartition(";")[2]
                if (word := _word(before)) is not None and not _is_identifier(one.node):
                    yield one.node.lineno, word
            one = next(waiting, None)
        statement += text[part.start : part.end] if part.kind == "sql" else " " if part.kind == "comment" else "''"


def _word(before: str) -> str | None:
    """The word after which a name is needed at the end of `before`, or None."""
    found = _BEFORE_NAME.search(before[-500:])
    if found is None or _COPY.match(before) or _DISTINCT.search(before[-500:]):
        return None
    word = found["word"].upper()
    return None if word == "FROM" and _FUNCTION.search(before[: _opening(before)]) else word


def _opening(text: str) -> int:
    """The position of the innermost parenthesis that is not closed; 0 if there is none."""
    depth = 0
    for index in range(len(text) - 1, -1, -1):
        depth += (text[index] == ")") - (text[index] == "(")
        if depth < 0:
            return index
    return 0


def _is_identifier(node: nodes.Node) -> bool:
    filters = [*node.find_all(nodes.Filter), *([node] if isinstance(node, nodes.Filter) else [])]
    return any(one.name == "identifier" for one in filters)
