"""The Parquet files of a batch: typed columns; JSON columns of the database are text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .layout import EVENTS, EXECUTIONS, RESULTS

# rows and bytes of text that are buffered before they are written as a row group
GROUP_ROWS = 50_000
GROUP_BYTES = 32 * 1024 * 1024

_INSTANT = "timestamp"
_COLUMNS: dict[str, dict[str, str]] = {
    EVENTS: {
        "execution_id": "int64",
        "seq": "int32",
        "cause": "int32",
        "type": "string",
        "step": "string",
        "generation": "int32",
        "command_id": "string",
        "timestamp": _INSTANT,
        "payload": "string",
    },
    EXECUTIONS: {
        "execution_id": "int64",
        "catalog_id": "int64",
        "path": "string",
        "version": "int32",
        "plan_hash": "string",
        "parent_execution_id": "int64",
        "parent": "string",
        "depth": "int32",
        "status": "string",
        "head": "int32",
        "finished": "int32",
        "workload": "string",
        "state": "string",
        "result": "string",
        "error": "string",
        "idempotency_key": "string",
        "created_at": _INSTANT,
        "ended_at": _INSTANT,
    },
    RESULTS: {
        "execution_id": "int64",
        "key": "string",
        "ref": "string",
        "step": "string",
        "store": "string",
        "bytes": "int64",
        "sha256": "string",
        "content_type": "string",
        "scope": "string",
        "expires_at": _INSTANT,
        "created_at": _INSTANT,
    },
}


def columns(table: str) -> Sequence[str]:
    return tuple(_COLUMNS[table])


class TableWriter:
    """Rows in the order of `columns(table)`; instants are microseconds since 1970."""

    def __init__(self, table: str, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = _schema(table)
        self._arrow = pa
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", version="2.6")
        self._rows: list[Sequence[Any]] = []
        self._size = 0
        self._digest = Digest()
        self.rows = 0

    @property
    def digest(self) -> str:
        """The digest of all rows so far, to be compared with `digest_of`."""
        return self._digest.value

    def add(self, row: Sequence[Any]) -> None:
        self._digest.add(row)
        self._rows.append(row)
        self._size += sum(len(value) for value in row if isinstance(value, str))
        self.rows += 1
        if len(self._rows) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            pa = self._arrow
            arrays = [
                pa.array(values, field.type)
                for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows, self._size = [], 0


class Digest:
    """A digest over the values of rows, independent of how the file encodes them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def value(self) -> str:
        return self._hash.hexdigest()

    def add(self, row: Iterable[Any]) -> None:
        for value in row:
            text = b"" if value is None else str(value).encode()
            self._hash.update(b"%d:" % (-1 if value is None else len(text)) + text)


def digest_of(table: str, path: Path, max_rows: int | None = None) -> tuple[int, str]:
    """How many rows a file holds, and the digest of their values. Raises ValueError for a file that is not of this
    table, or declares more than `max_rows` rows, because a few bytes can encode any number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest, rows = Digest(), 0
    with pq.ParquetFile(path) as file:
        if not file.schema_arrow.equals(_schema(table)):
            raise ValueError(f"the columns of {path.name} are not those of {table}")
        if max_rows is not None and file.metadata.num_rows > max_rows:
            raise ValueError(f"{path.name} has {file.metadata.num_rows} rows, not {max_rows}")
        for batch in file.iter_batches(batch_size=4096):
            values = [_plain(pa, column) for column in batch.columns]
            for row in zip(*values, strict=True):
                digest.add(row)
            rows += batch.num_rows
    return rows, digest.value


def _plain(pa: Any, column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _schema(table: str) -> Any:
    import pyarrow as pa

    types = {"int64": pa.int64(), "int32": pa.int32(), "string": pa.string(), _INSTANT: pa.timestamp("us", "UTC")}
    return pa.schema([(name, types[kind]) for name, kind in _COLUMNS[table].items()])
