"""Where in SQL a value can be bound, and what to write where none can."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .sql_text import parts

NAME_NEEDED = "write {{ ... | identifier }} where SQL needs a name"
# what a literal may begin with that makes its content no text
_PREFIX = re.compile(r"(?<![\w$])(?:[bBxX]|[uU]&)\Z")
_OR_REPLACE = re.compile(r"^CREATE\s+OR\s+REPLACE\b")
# characters of a statement that tell what it is
_START = 200
_BODY = (
    "no value can be bound in the body of a function: give the function a parameter, "
    "and pass {{ ... }} where it is called"
)
_BLOCK = (
    "no value can be bound in a DO block: write SELECT set_config('my.name', {{ ... }}, true) before it, "
    "and current_setting('my.name') in it"
)


def words_of(sql: str) -> list[str]:
    """The first words of a statement without comments, in capitals, OR REPLACE left out."""
    start = " ".join(sql.lstrip()[:_START].upper().split())
    return _OR_REPLACE.sub("CREATE", start).split()


def why_not_in(words: Sequence[str]) -> str | None:
    """What to write instead of a value in a literal of the statement that begins with `words`, or None."""
    match words:
        case ["DO", *_]:
            return _BLOCK
        case ["CREATE", "FUNCTION" | "PROCEDURE", *_]:
            return _BODY
        case _:
            return None


def has_prefix(before: str) -> bool:
    """Whether a literal that follows `before` is one of bits, or has Unicode escapes."""
    return _PREFIX.search(before[-3:]) is not None


def misplaced(text: str, marks: Sequence[int]) -> tuple[int, str] | None:
    """The first of the placeholders, which stand at `marks` in `text`, that cannot be bound: its number and why."""
    waiting = iter(enumerate(marks))
    mark = next(waiting, None)
    statement = ""
    for part in parts(text):
        if part.kind == "sql":
            _, semicolon, after = text[part.start : part.end].rpartition(";")
            statement = after if semicolon else statement + after
        elif part.kind == "comment":
            statement += " "
        while mark is not None and mark[1] < part.end:
            reason = None
            if part.kind == "identifier":
                reason = "a placeholder inside double quotes: remove them and write {{ ... | identifier }}"
            elif part.kind in ("text", "escaped", "dollar"):
                reason = why_not_in(words_of(statement))
                if part.kind == "text" and has_prefix(statement):
                    reason = "a placeholder inside B'...', X'...' or U&'...': write '...' and a cast"
            if reason is not None:
                return mark[0], reason
            mark = next(waiting, None)
    return None
