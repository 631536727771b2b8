"""What Parquet has no values of is refused by its name: pyarrow would end the process for some of it."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from noetl_serverless.tables.parquet_types import check_parquet

NOTHING: Any = pa.list_(pa.string(), 0)
REFUSED = [
    NOTHING,
    pa.list_(NOTHING),
    pa.large_list(NOTHING),
    pa.list_view(NOTHING),
    pa.list_(NOTHING, 2),
    pa.struct([("a", pa.int64()), ("b", NOTHING)]),
    pa.map_(pa.string(), NOTHING),
    pa.dictionary(pa.int8(), NOTHING),
    pa.dictionary(pa.int8(), pa.list_(pa.int8())),
    pa.run_end_encoded(pa.int32(), pa.int64()),
    pa.dense_union([pa.field("a", pa.int64())]),
    pa.month_day_nano_interval(),
    pa.binary(0),
    pa.struct([]),
    pa.decimal128(3, 5),
    pa.decimal128(10, -2),
    pa.list_(pa.decimal256(50, 51)),
    pa.dictionary(pa.int8(), pa.decimal128(3, 5)),
]
TAKEN = [
    pa.null(),
    pa.bool_(),
    pa.uint64(),
    pa.float16(),
    pa.decimal256(50, 2),
    pa.decimal128(3, 3),
    pa.date64(),
    pa.time64("ns"),
    pa.timestamp("us", "UTC"),
    pa.duration("s"),
    pa.string_view(),
    pa.binary(2),
    pa.uuid(),
    pa.list_(pa.struct([("a", pa.string())]), 2),
    pa.list_view(pa.binary_view()),
    pa.map_(pa.string(), pa.large_list(pa.int8())),
    pa.dictionary(pa.int8(), pa.string()),
]


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_a_type_that_parquet_lacks_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(ValueError, match="column 'c': Parquet has no values of the type"):
        check_parquet(pa.schema([("n", pa.int64()), ("c", kind)]))


@pytest.mark.parametrize("kind", TAKEN, ids=str)
def test_a_type_that_is_not_refused_is_written(kind: pa.DataType) -> None:
    schema = pa.schema([("c", kind)])
    check_parquet(schema)
    column = pa.ExtensionArray.from_storage(kind, pa.nulls(3, pa.binary(16))) if kind == pa.uuid() else None
    batch = pa.record_batch([pa.nulls(3, kind) if column is None else column], schema)
    file = io.BytesIO()
    with parquet.ParquetWriter(file, schema) as writer:
        writer.write_batch(batch)
    assert parquet.read_metadata(io.BytesIO(file.getvalue())).num_rows == 3


_CODE = """
import pyarrow as pa
from noetl_serverless.tables.export import Batches, pieces
table = pa.table({"n": range(3), "c": pa.array([[], None, []], pa.list_(pa.string(), 0))})
try:
    list(pieces(Batches(table.schema, iter(table.to_batches())), "parquet"))
except ValueError as error:
    print(error)
"""


def test_a_table_whose_type_parquet_lacks_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[:300]}"
    assert done.stdout.startswith("column 'c': Parquet has no values of the type fixed_size_list")
