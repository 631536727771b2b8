"""Rows of a batch as JSON values, the same whatever tool has made it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .values import plain_value

if TYPE_CHECKING:
    import pyarrow


def rows_of(batch: pyarrow.RecordBatch) -> list[dict[str, Any]]:
    """`batch`: validated. Of instants and durations what is below a microsecond is left out."""
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


def _values(column: pyarrow.Array) -> list[Any]:
    import pyarrow.types as t

    kind = column.type
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_string(kind) or t.is_large_string(kind):
        return list(column.to_pylist())
    convert: Callable[[Any], Any] = plain_value
    if _is_nanoseconds(kind):
        column = column.cast(_in_microseconds(kind), safe=False)
    elif t.is_interval(kind):
        convert = _interval
    return [convert(value) for value in column.to_pylist(maps_as_pydicts="lossy")]


def _is_nanoseconds(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    return (t.is_timestamp(kind) or t.is_duration(kind) or t.is_time64(kind)) and bool(kind.unit == "ns")


def _in_microseconds(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow

    if pyarrow.types.is_timestamp(kind):
        return pyarrow.timestamp("us", kind.tz)
    return pyarrow.duration("us") if pyarrow.types.is_duration(kind) else pyarrow.time64("us")


def _interval(value: Any) -> str | None:
    """As DuckDB gives an interval to Python: a month has 30 days."""
    if value is None:
        return None
    return str(timedelta(days=30 * value.months + value.days, microseconds=value.nanoseconds // 1000))
