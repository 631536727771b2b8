"""The tables in the input of a duckdb task: lists of objects, and tables, which DuckDB reads where they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
import pyarrow

from ..tables.forms import form_of
from ..tables.from_rows import is_rows, table_of
from ..tables.table import Table

Rows = Table | list[dict[str, Any]]


def tables_in(input: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Rows]:
    """By name. The result of a task that has rows is a table as well, if one of `texts` of SQL has its name."""
    text = "\n".join(texts).lower()
    found: dict[str, Rows] = {}
    for name, value in input.items():
        if _is_rows(value):
            found[name] = value
        elif isinstance(value, Mapping) and name.lower() in text and (rows := _rows_of(value)) is not None:
            found[name] = rows
    return found


def _rows_of(result: Mapping[str, Any]) -> Rows | None:
    fields: list[Rows] = [value for value in result.values() if isinstance(value, Table)]
    if not fields and "row_count" in result:
        fields = [result[name] for name in ("rows", "data") if _is_rows(result.get(name))]
    return fields[0] if len(fields) == 1 else None


def _is_rows(value: Any) -> bool:
    return isinstance(value, Table) or is_rows(value)


def register(connection: duckdb.DuckDBPyConnection, name: str, rows: Rows) -> None:
    if not isinstance(rows, Table):
        connection.register(name, table_of(rows))
        return
    table = pyarrow.Table.from_batches(rows.batches(), rows.schema)
    replaced = [_replaced(field) for field in table.schema if form_of(field) in ("decimal", "json")]
    if not replaced:
        connection.register(name, table)
        return
    connection.register(f"__noetl_{name}", table)
    view, source = _quoted(name), _quoted(f"__noetl_{name}")
    # the names are quoted
    connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * REPLACE ({', '.join(replaced)}) FROM {source}")  # noqa: S608


def _replaced(field: pyarrow.Field) -> str:
    """The column of texts with the type that it would have from a list of these values."""
    column = _quoted(field.name)
    if form_of(field) == "json":
        return f"CAST({column} AS JSON) AS {column}"
    return f"CASE WHEN isfinite(CAST({column} AS DOUBLE)) THEN CAST({column} AS DOUBLE) END AS {column}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
