"""Rows, as objects, in the text form of COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pg8000 import converters

from .encoding import encode
from .postgres_array import array_text, listed
from .postgres_bytea import BYTEA, BYTEA_ARRAY, NotBytes, at_place, bytea_array, bytea_text

_CHUNK = 1 << 17
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key of every row, in the order of first appearance."""
    seen: dict[str, None] = {}
    last: Any = None
    for row in rows:
        keys = row.keys()
        if keys != last:
            seen.update(dict.fromkeys(map(str, keys)))
            last = keys
    return list(seen)


def quoted(name: str) -> str:
    """A name, or schema.name, as an identifier."""
    return ".".join(str(converters.identifier(part)) for part in name.split("."))


def copy_text(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], types: Sequence[int], arrays: Sequence[bool]
) -> Iterator[bytes]:
    """The rows in chunks; `types`: the OIDs of the columns; `arrays`: whether each is an array, in which a list is
    written as one. Raises NotBytes."""
    writers = [(name, _writer(type_, is_array)) for name, type_, is_array in zip(columns, types, arrays, strict=True)]
    lines: list[str] = []
    size = 0
    for number, row in enumerate(rows):
        name = ""
        try:
            line = "\t".join([write(row.get(name := column)) for column, write in writers])
        except NotBytes as error:
            raise at_place(error, number, name) from None
        lines.append(line)
        size += len(line)
        if size >= _CHUNK:
            lines.append("")
            yield "\n".join(lines).encode()
            lines, size = [], 0
    if lines:
        lines.append("")
        yield "\n".join(lines).encode()


def _writer(type_: int, is_array: bool) -> Callable[[Any], str]:
    if type_ == BYTEA:
        return lambda value: _field(bytea_text(value))
    if type_ == BYTEA_ARRAY:
        return lambda value: _array(bytea_array(value))
    return _array if is_array else _field


def _field(value: Any) -> str:
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (dict, list, tuple)):
        return encode(value).decode().translate(_ESCAPES)
    return str(value).translate(_ESCAPES)


def _array(value: Any) -> str:
    value = listed(value)
    if isinstance(value, (list, tuple)):
        return array_text(value).translate(_ESCAPES)
    return _field(value)
