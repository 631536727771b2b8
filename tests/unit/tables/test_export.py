"""A table in pieces, of which few are in memory at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from noetl_serverless.tables.export import pieces
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import Form
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
