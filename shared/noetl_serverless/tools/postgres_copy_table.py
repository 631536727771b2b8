"""A table in the CSV form of COPY, a batch at a time: the values that a list of its rows would load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import pyarrow
import pyarrow.compute as compute
import pyarrow.csv
import pyarrow.types as t
from pg8000 import converters

from ..limits import MIB
from ..tables.forms import form_of
from ..tables.rows import values_of
from ..tables.stream import size_of
from ..tables.table import Table
from .encoding import encode
from .postgres_array import array_text, listed
from .postgres_bytea import BYTEA, BYTEA_ARRAY, NotBytes, at_place, bytea_array, bytea_text

_CHUNK_BYTES: Final = MIB
_FLOATS: Final = frozenset({converters.FLOAT, converters.REAL})
_NUMBERS: Final = _FLOATS | {converters.NUMERIC}
_JSON: Final = frozenset({converters.JSON, converters.JSONB})
_INSTANTS: Final = frozenset({converters.TIMESTAMP, converters.TIMESTAMPTZ})
# null is nothing, and a text without characters is ""
_OPTIONS: Final = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")

Write = Callable[[pyarrow.Array], pyarrow.Array]


def copy_csv(table: Table, columns: Sequence[str], types: Sequence[int], arrays: Sequence[bool]) -> Iterator[bytes]:
    """`types`: the OIDs of the columns that are loaded; `arrays`: whether they are arrays. Raises InvalidTable, and
    NotBytes."""
    schema = table.schema
    places = [schema.get_field_index(name) for name in columns]
    writers = [
        _nulls if place < 0 else _writer(schema.field(place), type_, is_array)
        for place, type_, is_array in zip(places, types, arrays, strict=True)
    ]
    first = 0
    for batch in table.batches():
        rows = max(1, batch.num_rows * _CHUNK_BYTES // max(1, size_of(batch)))
        for start in range(0, batch.num_rows, rows):
            part = batch.slice(start, rows)
            written = []
            for name, write, place in zip(columns, writers, places, strict=True):
                try:
                    written.append(write(part.column(max(place, 0))))
                except NotBytes as error:
                    raise at_place(error, first + start + error.row, name) from None
            sink = pyarrow.BufferOutputStream()
            # their names are in no header
            names = [str(index) for index in range(len(written))]
            pyarrow.csv.write_csv(pyarrow.RecordBatch.from_arrays(written, names), sink, _OPTIONS)
            yield sink.getvalue().to_pybytes()
        first += batch.num_rows


def _writer(field: pyarrow.Field, type_: int, is_array: bool) -> Write:
    """Of a column, for one of the type that is loaded: where pyarrow's text of each value may differ from that of a
    list, this makes the text value by value."""
    kind, form = field.type, form_of(field)
    one_by_one = partial(_texts, form=form, is_array=is_array)
    if t.is_dictionary(kind):
        decoded = _writer(pyarrow.field(field.name, kind.value_type), type_, is_array)
        return lambda column: decoded(column.dictionary_decode())
    if type_ in (BYTEA, BYTEA_ARRAY):
        return partial(_bytes, form=form, is_array=is_array)
    if t.is_string(kind) or t.is_large_string(kind):
        fits = (form == "json" and type_ in _JSON) or (form == "decimal" and type_ in _NUMBERS)
        return _same if fits or (form is None and not is_array) else one_by_one
    if t.is_integer(kind) or t.is_null(kind) or (t.is_boolean(kind) and type_ == converters.BOOLEAN):
        return _same
    if t.is_decimal(kind) and type_ in _NUMBERS:
        return lambda column: column.cast(pyarrow.string())
    if (t.is_float32(kind) or t.is_float64(kind)) and type_ in _FLOATS:
        return _finite
    if t.is_date32(kind) and type_ == converters.DATE:
        return lambda column: column if _is_in_calendar(column, pyarrow.int32(), 1) else one_by_one(column)
    if t.is_timestamp(kind) and type_ in _INSTANTS and kind.tz in (None, "UTC"):
        return lambda column: _instants(column, one_by_one)
    return one_by_one


def _same(column: pyarrow.Array) -> pyarrow.Array:
    return column


def _nulls(column: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.nulls(len(column))


def _finite(column: pyarrow.Array) -> pyarrow.Array:
    """In JSON, what is not finite is null."""
    # a float of 32 bits is another number in JSON than its shortest text
    wide = column.cast(pyarrow.float64())
    return compute.if_else(compute.is_finite(wide), wide, None)


def _instants(column: pyarrow.Array, one_by_one: Write) -> pyarrow.Array:
    column = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False) if column.type.unit == "ns" else column
    a_day = 86_400 * {"s": 1, "ms": 1_000, "us": 1_000_000}[column.type.unit]
    return column if _is_in_calendar(column, pyarrow.int64(), a_day) else one_by_one(column)


# of the years 1 to 9999, in days since 1970
_CALENDAR: Final = (-719_162, 2_932_896)


def _is_in_calendar(column: pyarrow.Array, kind: pyarrow.DataType, a_day: int) -> bool:
    found = compute.min_max(column.cast(kind)).as_py()
    first, last = _CALENDAR
    return found["min"] is None or (first * a_day <= found["min"] and found["max"] < (last + 1) * a_day)


def _texts(column: pyarrow.Array, form: str | None, is_array: bool) -> pyarrow.Array:
    return pyarrow.array([_text(value, is_array) for value in values_of(column, form)], pyarrow.string())


def _bytes(column: pyarrow.Array, form: str | None, is_array: bool) -> pyarrow.Array:
    kind = column.type
    is_binary = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
    texts: list[str | None] = []
    try:
        for value in column.to_pylist() if is_binary else values_of(column, form):
            texts.append(_text(bytea_array(value), is_array=True) if is_array else bytea_text(value))
    except NotBytes as error:
        raise NotBytes(str(error), len(texts)) from None
    return pyarrow.array(texts, pyarrow.string())


def _text(value: Any, is_array: bool) -> str | None:
    value = listed(value) if is_array else value
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int | float):
        return repr(value)
    return array_text(value) if is_array and isinstance(value, list) else encode(value).decode()
