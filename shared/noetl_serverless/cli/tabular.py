"""Results as CSV, Parquet, Arrow or JSON, converted a batch at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from .failure import Failure

if TYPE_CHECKING:
    import pyarrow

Format = Literal["csv", "json", "parquet", "arrow"]

ARROW: Final = "application/vnd.apache.arrow.stream"
PARQUET: Final = "application/vnd.apache.parquet"
# the type of a file by its ending
TYPES: Final = {
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".arrow": ARROW,
    ".arrows": ARROW,
    ".parquet": PARQUET,
    ".xml": "application/xml",
    ".pdf": "application/pdf",
}
_FORMATS: Final[dict[str, Format]] = {
    "application/json": "json",
    "text/csv": "csv",
    ARROW: "arrow",
    PARQUET: "parquet",
}
ROWS_AT_ONCE: Final = 10_000


def format_of(content_type: str) -> Format | None:
    return _FORMATS.get(content_type.partition(";")[0].strip().lower())


def convert(source: Path, content_type: str, target: IO[bytes], wanted: Format) -> None:
    """Write the content of the file `source` to `target` in another format. Raises Failure: it is no table, or a value
    of it has no form there."""
    try:
        import pyarrow
    except ImportError:
        raise Failure(
            "--as needs pyarrow, which is not installed; run: pip install 'noetl-serverless[tools]'. Without --as the "
            "result is written as it is stored"
        ) from None
    given = format_of(content_type)
    if given is None:
        raise Failure(f"a result of type {content_type or 'unknown'} cannot be converted to {wanted}")
    try:
        if given == "arrow":
            _from_arrow(source, target, wanted)
        elif wanted == "json":
            _write_json(_batches_of(source, given)[1], target)
        else:
            _write(*_batches_of(source, given), target, wanted)
    except (pyarrow.ArrowException, ValueError) as error:
        raise Failure(f"the result cannot be converted to {wanted}: {error}") from error


def _from_arrow(source: Path, target: IO[bytes], wanted: Format) -> None:
    from ..tables.mapped import MappedFile
    from ..tables.table import Table
    from ..tables.value import read_value, tables_in

    value = read_value(MappedFile(os.open(source, os.O_RDONLY), source.stat().st_size))
    if wanted == "json":
        _write_value(value, target)
        return
    tables = [table for _, table in tables_in(value)]
    if len(tables) != 1:
        places = ", ".join(".".join(map(str, place)) for place, _ in tables_in(value))
        raise Failure(f"the result has {len(tables)} tables ({places}); --as json writes all of it")
    table: Table = tables[0]
    _write(table.schema, table.batches(), target, wanted)


def _batches_of(source: Path, given: Format) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    import pyarrow

    if given == "csv":
        from pyarrow import csv

        reader = csv.open_csv(source)
        return reader.schema, iter(reader)
    if given == "parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(source)
        return file.schema_arrow, file.iter_batches(ROWS_AT_ONCE)
    table = pyarrow.Table.from_pylist(_rows(json.loads(source.read_bytes())))
    return table.schema, iter(table.to_batches(ROWS_AT_ONCE))


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = value.get("rows") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Failure("the result is no table: it is neither a list of objects, nor has it one in `rows`")
    return rows


def _write(schema: pyarrow.Schema, batches: Iterator[pyarrow.RecordBatch], target: IO[bytes], wanted: Format) -> None:
    import pyarrow

    match wanted:
        case "arrow":
            with pyarrow.ipc.new_stream(target, schema) as arrow:
                for batch in batches:
                    arrow.write_batch(batch)
        case "parquet":
            from pyarrow import parquet

            with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
        case "csv":
            from pyarrow import csv

            flat = pyarrow.schema([field.with_type(_flat(field.type)) for field in schema])
            with csv.CSVWriter(target, flat) as lines:
                for batch in batches:
                    lines.write_batch(_flattened(batch, flat))


def _flat(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow
    import pyarrow.types as t

    is_flat = not (t.is_nested(kind) or t.is_dictionary(kind) or t.is_binary(kind) or t.is_large_binary(kind))
    return kind if is_flat else pyarrow.string()


def _flattened(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """What has no form in CSV is the text that JSON has for it."""
    if batch.schema.types == schema.types:
        return batch
    import pyarrow

    from ..tables.rows import rows_of

    columns = []
    for index, field in enumerate(schema):
        column = batch.column(index)
        if column.type != field.type:
            values = [next(iter(row.values())) for row in rows_of(batch.select([index]))]
            column = pyarrow.array([_text(value) for value in values], field.type)
        columns.append(column)
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_json(batches: Iterator[pyarrow.RecordBatch], target: IO[bytes]) -> None:
    from ..tables.rows import rows_of

    _write_rows((row for batch in batches for row in rows_of(batch)), target)
    target.write(b"\n")


def _write_value(value: Any, target: IO[bytes]) -> None:
    """The value, with the rows of its tables, of which a few are in memory at once."""
    _write_part(value, target)
    target.write(b"\n")


def _write_part(value: Any, target: IO[bytes]) -> None:
    from ..tables.table import Table
    from ..tables.value import tables_in

    if isinstance(value, Table):
        _write_rows(iter(value), target)
    elif isinstance(value, dict) and next(tables_in(value), None) is not None:
        target.write(b"{")
        for index, (key, member) in enumerate(value.items()):
            target.write((b"," if index else b"") + json.dumps(key).encode() + b":")
            _write_part(member, target)
        target.write(b"}")
    elif isinstance(value, list) and next(tables_in(value), None) is not None:
        _write_members(value, target)
    else:
        target.write(_json(value))


def _write_members(values: Sequence[Any], target: IO[bytes]) -> None:
    target.write(b"[")
    for index, member in enumerate(values):
        target.write(b"," if index else b"")
        _write_part(member, target)
    target.write(b"]")


def _write_rows(rows: Iterator[Any], target: IO[bytes]) -> None:
    target.write(b"[")
    for index, row in enumerate(rows):
        target.write((b",\n" if index else b"\n") + _json(row))
    target.write(b"\n]")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
