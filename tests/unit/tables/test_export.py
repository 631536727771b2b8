"""A table in pieces, of which few are in memory at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import orjson
import pyarrow as pa
import pytest

from noetl_serverless.tables.export import Batches, pieces
from noetl_serverless.tables.invalid import RowTooLarge
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import Form
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import BATCH_BYTES, write_table
from noetl_serverless.tables.table import CHUNK_ROWS
from noetl_serverless.tables.value import read_value


@pytest.mark.parametrize("form", get_args(Form))
def test_a_large_table_is_converted_piece_by_piece(form: Form, tmp_path: Path) -> None:
    rows = 500_000
    table = pa.table({"n": range(rows), "text": pa.array([f"{n:0100d}" for n in range(rows)])})
    with (tmp_path / "large").open("w+b") as file:
        size = write_table(file.fileno(), table).bytes
        del table
        value = read_value(MappedFile(os.dup(file.fileno()), size))
    before = pa.total_allocated_bytes()
    count = largest = most = 0
    for piece in pieces(value, form):
        count += 1
        largest = max(largest, len(piece))
        most = max(most, pa.total_allocated_bytes() - before)
    assert count >= (3 if form in ("parquet", "arrow") else rows // CHUNK_ROWS)
    # a batch of a table has up to twice so many
    assert largest < 2.1 * BATCH_BYTES and most < 2.1 * BATCH_BYTES, (largest, most)


def test_few_large_rows_are_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.table.CHUNK_BYTES", 1 << 20)
    descriptor = memory_file()
    written = write_table(descriptor, pa.table({"n": range(40), "text": ["x" * 300_000] * 40}))
    found = list(pieces(read_value(MappedFile(descriptor, written.bytes)), "ndjson"))
    assert max(map(len, found)) < 1 << 20
    assert [orjson.loads(line)["n"] for line in b"".join(found).splitlines()] == list(range(40))


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_a_row_that_would_take_too_much_memory_is_refused(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 1 << 20)
    monkeypatch.setattr("noetl_serverless.tables.table.CHUNK_BYTES", 1 << 20)
    descriptor = memory_file()
    lists = pa.array([[1], [2], [3] * 1_000_000], pa.list_(pa.int8()))
    written = write_table(descriptor, pa.table({"n": range(3), "list": lists}))
    with pytest.raises(RowTooLarge, match="column 'list': as a value the row takes at least 7 MiB"):
        list(pieces(read_value(MappedFile(descriptor, written.bytes)), form))


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_a_text_that_would_take_too_much_memory_is_refused(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 1 << 20)
    batch = pa.record_batch([pa.array(range(2)), pa.array(["x", "x" * 2_000_000])], names=["n", "text"])
    with pytest.raises(RowTooLarge, match="row 1, column 'text': as a value the row takes at least 1 MiB"):
        list(pieces(Batches(batch.schema, iter([batch])), form))
