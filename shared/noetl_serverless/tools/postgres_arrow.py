"""Values of PostgreSQL, as its protocol has them in text, in columns of Arrow: the same JSON as from its rows."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow
import pyarrow.compute as compute
from pg8000 import converters, core

from ..tables.forms import Form, field_of
from ..tables.instants import DAY_MICROSECONDS, days_of, microseconds_of
from ..tables.values import plain_value
from .postgres_limits import Limits
from .postgres_rows import RowReader
from .sql import SqlError

if TYPE_CHECKING:
    from .postgres_connection import Connection

Texts = Sequence[bytes | None]

_INTEGERS: Final = {
    converters.SMALLINT: pyarrow.int16(),
    converters.INTEGER: pyarrow.int32(),
    converters.BIGINT: pyarrow.int64(),
    converters.OID: pyarrow.uint32(),
}
# real as well: a float of 32 bits would be another number in JSON
_FLOATS: Final = frozenset({converters.FLOAT, converters.REAL})
_JSON: Final = frozenset({converters.JSON, converters.JSONB})
_INSTANTS: Final = {
    converters.TIMESTAMP: pyarrow.timestamp("us"),
    converters.TIMESTAMPTZ: pyarrow.timestamp("us", "UTC"),
}
# digits of a decimal of Arrow
_DIGITS: Final = 38


@dataclass(frozen=True, slots=True)
class Column:
    """`array`: of the values of a batch. It raises SqlError for one that the column cannot hold."""

    field: pyarrow.Field
    array: Callable[[Texts], pyarrow.Array]


def batches_of(
    connection: Connection, context: core.Context, names: Sequence[str], limits: Limits
) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    """The rows that remain of a statement; `names`: of its columns."""
    settings, encoding = connection.parameter_statuses, connection.encoding
    is_iso = settings.get("TimeZone") == "UTC" and settings.get("DateStyle", "").startswith("ISO")
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    text = _text if is_utf8 else lambda texts: _decoded(texts, encoding)
    columns = [
        _column(name, column["type_oid"], column["type_modifier"], read, text, is_iso)
        for column, name, read in zip(context.columns, names, context.input_funcs, strict=True)
    ]
    schema = pyarrow.schema([column.field for column in columns])
    return schema, _batches(connection.remaining(context, limits), columns, schema)


def _batches(reader: RowReader, columns: Sequence[Column], schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    for found in reader.batches():
        arrays = [column.array(texts) for column, texts in zip(columns, found, strict=True)]
        yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _column(
    name: str, oid: int, modifier: int, read: Callable[[str], Any], text: Callable[[Texts], pyarrow.Array], is_iso: bool
) -> Column:
    def column(kind: pyarrow.DataType, array: Callable[[Texts], pyarrow.Array], form: Form | None = None) -> Column:
        return Column(field_of(name, kind, form), array)

    if oid == converters.BOOLEAN:
        return column(pyarrow.bool_(), lambda texts: compute.equal(pyarrow.array(texts, pyarrow.binary()), b"t"))
    if (integer := _INTEGERS.get(oid)) is not None:
        return column(integer, lambda texts: _text(texts).cast(integer))
    if oid in _FLOATS:
        return column(pyarrow.float64(), lambda texts: _text(texts).cast(pyarrow.float64()))
    if oid == converters.NUMERIC:
        kind = _decimal(modifier)
        return column(pyarrow.string(), _text, "decimal") if kind is None else column(kind, _decimals(kind))
    if oid in _JSON:
        return column(pyarrow.string(), text, "json")
    if oid == converters.BYTES:
        return column(pyarrow.binary(), _bytes)
    if is_iso and oid == converters.DATE:
        return column(pyarrow.date32(), _dates, "postgres")
    if is_iso and (instant := _INSTANTS.get(oid)) is not None:
        return column(instant, lambda texts: _instants(texts, instant, name), "postgres")
    if oid == converters.TIME:
        return column(pyarrow.time64("us"), lambda texts: _times(texts, name), "postgres")
    if read is converters.string_in:
        return column(pyarrow.string(), text)
    if oid in _INSTANTS:
        return column(pyarrow.string(), lambda texts: pyarrow.array(map(_each(read), text(texts).to_pylist())))
    document = _each(lambda value: orjson.dumps(plain_value(read(value))).decode())
    return column(
        pyarrow.string(), lambda texts: pyarrow.array(map(document, text(texts).to_pylist()), pyarrow.string()), "json"
    )


def _each(read: Callable[[str], Any]) -> Callable[[str | None], Any]:
    return lambda text: None if text is None else read(text)


def _text(texts: Texts) -> pyarrow.Array:
    return pyarrow.array(texts, pyarrow.binary()).cast(pyarrow.string())


def _decoded(texts: Texts, encoding: str) -> pyarrow.Array:
    return pyarrow.array([None if text is None else text.decode(encoding) for text in texts], pyarrow.string())


def _bytes(texts: Texts) -> pyarrow.Array:
    # after \x
    return pyarrow.array([None if text is None else bytes.fromhex(text[2:].decode()) for text in texts])


def _decimal(modifier: int) -> pyarrow.DataType | None:
    """The type of numeric(p, s), if Arrow has it."""
    if modifier < 4:
        return None
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return pyarrow.decimal128(precision, scale) if scale <= precision <= _DIGITS else None


def _decimals(kind: pyarrow.DataType) -> Callable[[Texts], pyarrow.Array]:
    def decimals(texts: Texts) -> pyarrow.Array:
        found = _text(texts)
        try:
            return found.cast(kind)
        except pyarrow.ArrowInvalid:
            # NaN is null in JSON
            finite = (None if text is None or text == "NaN" else Decimal(text) for text in found.to_pylist())
            return pyarrow.array(finite, kind)

    return decimals


def _dates(texts: Texts) -> pyarrow.Array:
    found = _text(texts)
    try:
        return found.cast(pyarrow.date32())
    except pyarrow.ArrowInvalid:
        days = pyarrow.array(map(_each(days_of), found.to_pylist()), pyarrow.int32())
        return days.cast(pyarrow.date32())


def _instants(texts: Texts, kind: pyarrow.DataType, name: str) -> pyarrow.Array:
    found = _text(texts)
    try:
        return found.cast(kind)
    except pyarrow.ArrowInvalid:
        pass
    try:
        return pyarrow.array(map(_each(microseconds_of), found.to_pylist()), pyarrow.int64()).cast(kind)
    except OverflowError:
        fault = "an instant after the year 294246, which a table cannot hold"
        raise SqlError(f"the column '{name}' has {fault}; cast it to text") from None


def _times(texts: Texts, name: str) -> pyarrow.Array:
    found = compute.binary_join_element_wise("1970-01-01", _text(texts), " ")
    try:
        numbers = found.cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:
        numbers = pyarrow.array(map(_each(microseconds_of), found.to_pylist()), pyarrow.int64())
    last = compute.max(numbers).as_py()
    if last is not None and last >= DAY_MICROSECONDS:
        raise SqlError(f"the column '{name}' has the time 24:00:00, which a table cannot hold; cast it to text")
    return numbers.cast(pyarrow.time64("us"))
