"""Rows as a table, for those who read tables and are given rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pyarrow


def is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def table_of(rows: Sequence[dict[str, Any]]) -> pyarrow.Table:
    """Every key of every row is a column, null where a row lacks it."""
    import pyarrow

    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    return pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})


def typed_table(rows: Sequence[dict[str, Any]]) -> pyarrow.Table:
    """The same, but a column has the type of all its values. Raises ValueError, which names a column whose values have
    several types."""
    import pyarrow

    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            raise ValueError(f"column {name!r:.200}: {mixture_in(values) or error}") from error
    return pyarrow.table(columns)


def mixture_in(values: Iterable[Any]) -> str | None:
    """Where the first value of another type is, and both types; None if all have one, or are numbers."""
    first: tuple[int, type] | None = None
    for row, value in enumerate(values):
        if value is None:
            continue
        if first is None:
            first = row, type(value)
        elif _kind(type(value)) is not _kind(first[1]):
            return f"{first[1].__name__} in row {first[0]}, {type(value).__name__} in row {row} (counted from 0)"
    return None


def _kind(kind: type) -> type:
    return float if kind is int else kind


def _column(values: list[Any]) -> pyarrow.Array:
    """One type for all values: numbers of several types become floats, any other mixture becomes text."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        pass
    if all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values):
        return pyarrow.array([None if value is None else float(value) for value in values])
    return pyarrow.array([_text(value) for value in values])


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
