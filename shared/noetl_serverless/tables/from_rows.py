"""Rows as a table, for those who read tables and are given rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .inferred import Mixture, array_of

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
    several types, and where."""
    import pyarrow

    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    columns = {}
    for name in names:
        try:
            columns[name] = array_of([row.get(name) for row in rows])
        except Mixture as error:
            raise ValueError(f"column {name!r:.200}: {error}") from error
    return pyarrow.table(columns)


def _column(values: list[Any]) -> pyarrow.Array:
    """One type for all values: numbers of several types become floats, any other mixture becomes text."""
    import pyarrow

    try:
        return array_of(values)
    except Mixture:
        pass
    if all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values):
        return pyarrow.array([None if value is None else float(value) for value in values])
    return pyarrow.array([_text(value) for value in values])


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
