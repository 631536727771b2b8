"""Rows of DuckDB in batches of Arrow, whose values are the same JSON as those that it gives to Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import orjson
import pyarrow

from ..tables.forms import field_of
from ..tables.values import plain_value

# of a batch: eight of DuckDB's vectors
_BATCH_ROWS: Final = 16_384
# of which Arrow has types, or of which DuckDB makes values that mean the same
_IN_ARROW: Final = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
        *("hugeint", "float", "double", "decimal", "varchar", "blob", "uuid", "enum", "interval", "sqlnull", "null"),
        *("date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
        *("timestamp with time zone", "json"),
    }
)
_NESTED: Final = frozenset({"list", "array", "struct", "map", "union"})
# of which Python's values are those of Arrow
_IN_PYTHON: Final = {
    "boolean": "bool_",
    "tinyint": "int8",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "utinyint": "uint8",
    "usmallint": "uint16",
    "uinteger": "uint32",
    "ubigint": "uint64",
    "float": "float64",
    "double": "float64",
    "varchar": "string",
}


@dataclass(frozen=True, slots=True)
class Batches:
    schema: pyarrow.Schema
    batches: Iterable[pyarrow.RecordBatch]


def in_arrow(kind: Any) -> bool:
    """Whether Arrow has all values of this type of DuckDB."""
    if kind.id in _NESTED:
        return all(in_arrow(child) for _, child in kind.children if hasattr(child, "id"))
    return kind.id in _IN_ARROW


def from_relation(relation: duckdb.DuckDBPyRelation, names: Sequence[str]) -> Batches:
    """Runs the query as the batches are read. For one of which all columns are `in_arrow`."""
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    schema = pyarrow.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    doubtful = [index for index, kind in enumerate(schema.types) if _may_exceed(kind)]
    return Batches(schema, _renamed(reader, schema, doubtful))


def _may_exceed(kind: pyarrow.DataType) -> bool:
    """Whether DuckDB has values that are none of the type: integers of 39 digits, and the end of a day."""
    if pyarrow.types.is_time(kind) or (pyarrow.types.is_decimal(kind) and kind.precision == 38):
        return True
    return any(_may_exceed(kind.field(index).type) for index in range(kind.num_fields))


def _renamed(
    reader: pyarrow.RecordBatchReader, schema: pyarrow.Schema, doubtful: Sequence[int]
) -> Iterator[pyarrow.RecordBatch]:
    for number, batch in enumerate(_read(reader)):
        # few rows become JSON, and need not be values of their types
        for index in doubtful if number or batch.num_rows == _BATCH_ROWS else ():
            try:
                batch.column(index).validate(full=True)
            except pyarrow.ArrowInvalid as error:
                message = f"column {schema.names[index]}: {error}; cast it to VARCHAR in the query"
                raise duckdb.ConversionException(message) from None
        yield pyarrow.RecordBatch.from_arrays(batch.columns, schema=schema)


def _read(reader: pyarrow.RecordBatchReader) -> Iterator[pyarrow.RecordBatch]:
    """Raises what DuckDB raises, which pyarrow passes on as an error of its own."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pyarrow.ArrowException, OSError) as error:
            raise _error_of(str(error)) from None
        yield batch


def _error_of(message: str) -> duckdb.Error:
    """DuckDB's own, by the name that its message begins with."""
    for kind in (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb.PermissionException):
        name = kind.__name__.removesuffix("Exception")
        if name.upper() in message.partition(":")[0].upper().replace(" ", ""):
            return kind(message)
    return duckdb.Error(message)


def from_python(fetch: Callable[[int], list[tuple[Any, ...]]], names: Sequence[str], kinds: Iterable[Any]) -> Batches:
    """For types that Arrow lacks: their values are JSON documents."""
    types = [_IN_PYTHON.get(kind.id) for kind in kinds]
    schema = pyarrow.schema(
        [
            field_of(name, pyarrow.string(), "json") if kind is None else field_of(name, getattr(pyarrow, kind)())
            for name, kind in zip(names, types, strict=True)
        ]
    )
    return Batches(schema, _fetched(fetch, schema, types))


def _fetched(
    fetch: Callable[[int], list[tuple[Any, ...]]], schema: pyarrow.Schema, types: Sequence[str | None]
) -> Iterator[pyarrow.RecordBatch]:
    while found := fetch(_BATCH_ROWS):
        columns = [
            pyarrow.array(column if kind is not None else map(_document, column), field.type)
            for column, kind, field in zip(zip(*found, strict=True), types, schema, strict=True)
        ]
        yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _document(value: Any) -> str | None:
    return None if value is None else orjson.dumps(plain_value(value)).decode()
