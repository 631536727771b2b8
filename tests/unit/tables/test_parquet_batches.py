"""Dictionaries with a null among their entries, which the writer of Parquet does not take, wherever they are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from noetl_serverless.tables.export import Batches, pieces

COLUMN = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 3, 2], pa.int8()), pa.array(["a", None, "b", "c"]))
OFFSETS = pa.array([0, 2, 2, 5], pa.int32())
KEYS = pa.array(["k", "l", "m", "n", "o"])
COLUMNS: dict[str, Any] = {
    "plain": COLUMN,
    "a part": COLUMN.slice(1, 3),
    "numbers": pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.uint32()), pa.array([None, 7])),
    "nulls alone": pa.DictionaryArray.from_arrays(pa.array([0, 0, None]), pa.nulls(1, pa.string())),
    "struct": pa.StructArray.from_arrays([COLUMN, KEYS], ["x", "y"]),
    "list": pa.ListArray.from_arrays(OFFSETS, COLUMN),
    "large list": pa.LargeListArray.from_arrays(OFFSETS.cast(pa.int64()), COLUMN),
    "fixed list": pa.FixedSizeListArray.from_arrays(COLUMN.slice(1), 2),
    "map": pa.MapArray.from_arrays(OFFSETS, KEYS, COLUMN),
    "list of structs": pa.ListArray.from_arrays(OFFSETS, pa.StructArray.from_arrays([COLUMN], ["x"])),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_null_entry_is_written_as_a_null_also_after_the_first_batch(name: str) -> None:
    column = COLUMNS[name]
    without = column.slice(0, 0)
    batches = [pa.record_batch([part], names=["v"]) for part in (without, column, column)]
    written = b"".join(pieces(Batches(batches[0].schema, iter(batches)), "parquet"))
    assert parquet.read_table(pa.BufferReader(written))["v"].to_pylist() == column.to_pylist() * 2


def test_a_dictionary_stays_one_with_its_order_and_its_metadata() -> None:
    ordered = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["a", None]), ordered=True)
    field = pa.field("v", ordered.type, metadata={"k": "m"})
    batch = pa.record_batch([ordered], pa.schema([field], {"of": "all"}))
    table = parquet.read_table(pa.BufferReader(b"".join(pieces(Batches(batch.schema, iter([batch])), "parquet"))))
    assert pa.types.is_dictionary(table.schema.field("v").type) and table.schema.field("v").type.ordered
    assert table.schema.field("v").metadata[b"k"] == b"m" and table.schema.metadata[b"of"] == b"all"
