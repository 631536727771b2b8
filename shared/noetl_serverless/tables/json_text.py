"""JSON in files that nobody can change, so that what is passed on as it was written is not written again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ..limits import MIB
from .mapped import MappedFile

# a smaller text is written again as fast
LARGE_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class JsonText:
    """The bytes of a file from `start` to `end`, which are one JSON value."""

    file: MappedFile
    start: int
    end: int


def texts_in(value: Any, file: MappedFile) -> Iterator[tuple[Any, JsonText]]:
    """The parts of `value` whose JSON is known to stand in the file, which has the JSON of all of it: `value` itself,
    and the long texts that are fields of it."""
    yield value, JsonText(file, 0, file.size)
    if isinstance(value, dict):
        yield from _fields(value, file)


def _fields(value: dict[str, Any], file: MappedFile) -> list[tuple[Any, JsonText]]:
    """None if the file is not what is expected here: a text with an escape takes more bytes than it has characters,
    whitespace and names that occur twice make it longer."""
    found: list[tuple[Any, JsonText]] = []
    place = 0
    for name, item in value.items():
        before = b"%s%s:" % (b"," if place else b"{", orjson.dumps(name))
        if file.view[place : place + len(before)] != before:
            return []
        place += len(before)
        if isinstance(item, str) and len(item) >= LARGE_BYTES and item.isascii():
            end = place + len(item) + 2
            found.append((item, JsonText(file, place, end)))
        elif isinstance(item, dict | list) or (isinstance(item, str) and len(item) >= LARGE_BYTES):
            return []
        else:
            written = orjson.dumps(item)
            end = place + len(written)
            if file.view[place:end] != written:
                return []
        place = end
    return found if place + 1 == file.size else []
