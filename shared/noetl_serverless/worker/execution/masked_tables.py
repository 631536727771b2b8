"""Masks the secrets in tables, of which most have none: those stay the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from ...tables.rows import rows_of
from ...tables.sealed import sealed_file
from ...tables.stream import write_batches
from ...tables.table import Table
from ...tables.value import without_tables
from ...telemetry.secret_texts import SecretTexts

if TYPE_CHECKING:
    import pyarrow

# that are looked through at once
SLICE_ROWS = 10_000


def masked_tables(value: Any, texts: SecretTexts, open_file: Callable[[int], int]) -> Any:
    """The value with every secret in its tables replaced; all else in it stays. Takes time in proportion to the texts
    in it."""
    done: dict[int, Table] = {}

    def masked(table: Table) -> Table:
        if id(table) not in done:
            columns = _columns_with_secrets(table, texts)
            done[id(table)] = _rewritten(table, columns, texts, open_file) if columns else table
        return done[id(table)]

    return without_tables(value, masked)


def _columns_with_secrets(table: Table, texts: SecretTexts) -> set[int]:
    """Also a name of a column may hold one."""
    found = {number for number, name in enumerate(table.schema.names) if texts.is_in(name)}
    search = _Search(texts)
    for batch in _slices(table):
        for number, column in enumerate(batch.columns):
            if number not in found and search.finds(column):
                found.add(number)
    return found


class _Search:
    """For secrets in columns: in the values of rows, and in what their types and dictionaries hold beside."""

    def __init__(self, texts: SecretTexts) -> None:
        self._texts = texts
        # where those begin that were looked through, and their lengths: all slices of a batch have the same
        self._dictionaries: set[tuple[int, int]] = set()

    def finds(self, column: pyarrow.Array) -> bool:
        import pyarrow.types as t

        kind, texts = column.type, self._texts
        if t.is_string(kind) or t.is_large_string(kind):
            return texts.is_in("\0".join(text for text in column.to_pylist() if text))
        if t.is_primitive(kind):
            return any(number in texts.numbers for number in column.unique().to_pylist()) if texts.numbers else False
        if t.is_dictionary(kind):
            # also what no row has: the rows that had it may have been left out
            return self._finds_in_dictionary(column.dictionary)
        if t.is_struct(kind):
            names = any(texts.is_in(field.name) for field in kind.fields)
            return names or any(map(self.finds, column.flatten()))
        if t.is_list(kind) or t.is_large_list(kind):
            return self.finds(column.flatten())
        values = _json(column)
        return bool(texts.tree(values) != values)

    def _finds_in_dictionary(self, values: pyarrow.Array) -> bool:
        place = (next((it.address for it in reversed(values.buffers()) if it is not None), 0), len(values))
        if place in self._dictionaries:
            return False
        self._dictionaries.add(place)
        return self.finds(values)


def _rewritten(table: Table, columns: set[int], texts: SecretTexts, open_file: Callable[[int], int]) -> Table:
    """These columns become texts: where they were none, their values as JSON."""
    import pyarrow

    fields = [
        pyarrow.field(texts.text(field.name), pyarrow.string()) if number in columns else field
        for number, field in enumerate(table.schema)
    ]
    schema = pyarrow.schema(fields)

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for batch in _slices(table):
            arrays = [
                pyarrow.array(_masked(column, texts), pyarrow.string()) if number in columns else column
                for number, column in enumerate(batch.columns)
            ]
            yield pyarrow.record_batch(arrays, schema=schema)

    def write(descriptor: int) -> int:
        return write_batches(descriptor, schema, batches()).bytes

    return Table(sealed_file(table.file.size, write, open_file))


def _masked(column: pyarrow.Array, texts: SecretTexts) -> list[str | None]:
    return [
        value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
        for value in texts.tree(_json(column))
    ]


def _json(column: pyarrow.Array) -> list[Any]:
    import pyarrow

    return [row["v"] for row in rows_of(pyarrow.record_batch([column], names=["v"]))]


def _slices(table: Table) -> Iterator[pyarrow.RecordBatch]:
    for batch in table.batches():
        for start in range(0, batch.num_rows, SLICE_ROWS):
            yield batch.slice(start, SLICE_ROWS)
