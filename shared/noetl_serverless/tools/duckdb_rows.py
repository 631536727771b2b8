"""Rows of DuckDB in batches of Arrow, whose values are the same JSON as those that it gives to Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import orjson
import pyarrow

from ..tables.forms import Form, field_of
from ..tables.rows import values_of
from ..tables.values import plain_value
from .duckdb_casts import cast_of, conversion_of, in_arrow, is_text

# the rows of what is no SELECT are there already
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

# of a batch: eight of DuckDB's vectors
_BATCH_ROWS: Final = 16_384
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


def from_relation(relation: duckdb.DuckDBPyRelation, names: Sequence[str]) -> Batches | None:
    """Runs the query as the batches are read. Columns of types that Arrow lacks are texts, or documents. None if one of
    them is of a type that is cast to none that Arrow has."""
    kinds = relation.types
    lacking = {index: kind for index, kind in enumerate(kinds) if not in_arrow(kind)}
    casts = {index: cast_of(kind) for index, kind in lacking.items()}
    if None in casts.values():
        return None
    if casts:
        # by number, since two columns may have one name
        places = (f"#{index + 1}" for index in range(len(kinds)))
        columns = (f"CAST({at} AS {casts[index]})" if index in casts else at for index, at in enumerate(places))
        relation = relation.project(", ".join(columns))
    found = _from_reader(relation.to_arrow_reader(_BATCH_ROWS), names)
    if not lacking:
        return found
    schema = found.schema
    for index, kind in lacking.items():
        form: Form | None = None if is_text(kind) else "json"
        schema = schema.set(index, field_of(names[index], pyarrow.string(), form))
    return Batches(schema, (_converted(batch, schema, lacking) for batch in found.batches))


def from_result(result: duckdb.DuckDBPyConnection, names: Sequence[str]) -> Batches:
    """Of a statement that has been run. For one of which all columns are `in_arrow`."""
    return _from_reader(result.to_arrow_reader(_BATCH_ROWS), names)


def _from_reader(reader: pyarrow.RecordBatchReader, names: Sequence[str]) -> Batches:
    schema = pyarrow.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    doubtful = [index for index, kind in enumerate(schema.types) if _may_exceed(kind)]
    return Batches(schema, _renamed(reader, schema, doubtful))


def _converted(batch: pyarrow.RecordBatch, schema: pyarrow.Schema, kinds: Mapping[int, Any]) -> pyarrow.RecordBatch:
    """`kinds`: of the columns that were cast."""
    columns = batch.columns
    for index, kind in kinds.items():
        values = map(conversion_of(kind), values_of(columns[index]))
        columns[index] = pyarrow.array(values if is_text(kind) else map(_document, values), pyarrow.string())
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


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
    """For types that Arrow lacks, and to which no cast leads: values of most types are JSON documents."""
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
