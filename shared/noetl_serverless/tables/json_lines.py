"""Rows of a batch as lines of JSON, the same that `rows.rows_of` and orjson give, but for most columns without a Python
object for each value."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from .forms import form_of
from .rows import check_sizes, column_values, small_rows_of

if TYPE_CHECKING:
    import pyarrow

_ESCAPED: Final = re.compile(rb'["\\\x00-\x1f]')
# of forms, see there: each text is something else in JSON
_READ: Final = ("json", "decimal")
# days from 1970 to the first and the last day of Python's calendar, and seconds to their begins
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_DAY_SECONDS: Final = 86_400
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def json_text(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # integers of more than 64 bits, and texts that are no Unicode, out of documents
        return json.dumps(value, separators=(",", ":")).encode()


def json_lines(batch: pyarrow.RecordBatch, end: bytes, first: int = 0) -> bytes:
    """Each row as an object, and `end` after each. `batch`: validated, and with so few rows that there is room;
    `first`: the number of its first row, for messages. Raises InvalidTable."""
    import pyarrow
    import pyarrow.compute as compute

    names = batch.schema.names
    if not batch.num_rows or not names:
        return b""
    check_sizes(batch, 0, batch.num_rows, first)
    if len(set(names)) < len(names):
        return b"".join(json_text(row) + end for row in small_rows_of(batch, first))
    parts: list[Any] = []
    separator = b"{"
    for index, field in enumerate(batch.schema):
        key = separator + json_text(field.name) + b":"
        parts += [pyarrow.scalar(key.decode(), pyarrow.large_string()), _texts(batch, index, first)]
        separator = b","
    last = pyarrow.scalar("}" + end.decode(), pyarrow.large_string())
    lines = compute.binary_join_element_wise(*parts, last, pyarrow.scalar("", pyarrow.large_string()))
    return bytes(content_of(lines))


def content_of(texts: pyarrow.Array) -> memoryview:
    """The bytes of all texts, one after the other."""
    _, ends, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    places = memoryview(ends).cast("B")
    places = places.cast("q") if texts.type == "large_string" else places.cast("i")
    return memoryview(data)[places[texts.offset] : places[texts.offset + len(texts)]]


def _texts(batch: pyarrow.RecordBatch, index: int, first: int) -> pyarrow.Array:
    """Each value of a column as JSON, none of them null."""
    import pyarrow

    column, field = batch.column(index), batch.schema.field(index)
    found = fast_texts(column, form_of(field))
    if found is None:
        found = pyarrow.array([json_text(value) for value in column_values(column, field, first)], pyarrow.binary())
    if found.null_count:
        found = found.fill_null(pyarrow.scalar("null", found.type))
    return found.cast(pyarrow.large_string())


def fast_texts(column: pyarrow.Array, form: str | None) -> pyarrow.Array | None:
    """Each value as JSON, or null. None for what only Python converts."""
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_dictionary(kind) and (t.is_string(kind.value_type) or t.is_large_string(kind.value_type)):
        column, form = column.dictionary_decode(), None
        kind = column.type
    if t.is_string(kind) or t.is_large_string(kind):
        return None if form in _READ else _quoted(column)
    if t.is_boolean(kind) or t.is_integer(kind):
        return column.cast(pyarrow.string())
    if t.is_float32(kind) or t.is_float64(kind):
        numbers = orjson.dumps(column.to_pylist())[1:-1]
        return pyarrow.array(numbers.split(b",") if numbers else [], pyarrow.binary())
    if t.is_date32(kind):
        return _dates(column)
    if t.is_timestamp(kind) and kind.tz in (None, "UTC"):
        return _instants(column, form == "postgres")
    return None


def _quoted(column: pyarrow.Array) -> pyarrow.Array | None:
    import pyarrow
    import pyarrow.compute as compute

    if _ESCAPED.search(content_of(column)) is not None:
        return None
    quote, nothing = pyarrow.scalar('"', column.type), pyarrow.scalar("", column.type)
    return compute.binary_join_element_wise(quote, column, quote, nothing)


def _dates(column: pyarrow.Array) -> pyarrow.Array | None:
    import pyarrow

    if not _is_between(column.cast(pyarrow.int32()), _FIRST_DAY, _LAST_DAY):
        return None
    return _quoted(column.cast(pyarrow.string()))


def _instants(column: pyarrow.Array, postgres: bool) -> pyarrow.Array | None:
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    factor = _PER_SECOND[kind.unit]
    first, last = _FIRST_DAY * _DAY_SECONDS * factor, (_LAST_DAY + 1) * _DAY_SECONDS * factor - 1
    if not _is_between(column.cast(pyarrow.int64()), max(first, -(2**63)), min(last, 2**63 - 1)):
        return None
    # in its own unit, before the zone is left out, which stays UTC
    column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False).cast(pyarrow.int64())
    seconds = compute.floor(compute.divide(column.cast(pyarrow.float64(), safe=False), 1e6)).cast(pyarrow.int64())
    if compute.all(compute.equal(compute.multiply(seconds, 1_000_000), column)).as_py() in (True, None):
        texts = seconds.cast(pyarrow.timestamp("s")).cast(pyarrow.string())
    else:
        texts = column.cast(pyarrow.timestamp("us")).cast(pyarrow.string())
        texts = compute.replace_substring_regex(texts, r"\.000000$", "")
        if postgres:
            texts = compute.replace_substring_regex(texts, r"(\.\d*[1-9])0+$", r"\1")
    texts = compute.replace_substring(texts, " ", "T", max_replacements=1)
    quote, end = pyarrow.scalar('"'), pyarrow.scalar('"' if kind.tz is None else '+00:00"')
    return compute.binary_join_element_wise(quote, texts, end, "")


def _is_between(numbers: pyarrow.Array, first: int, last: int) -> bool:
    import pyarrow.compute as compute

    found = compute.min_max(numbers).as_py()
    return found["min"] is None or (found["min"] >= first and found["max"] <= last)
