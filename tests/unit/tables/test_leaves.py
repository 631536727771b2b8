from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables.leaves import leaves

TEXTS = pa.array(["a", "b", "c", "d"])
NUMBERS = pa.array(range(4))
SECOND_IS_NULL = pa.array([False, True, False, False])
ENDS = pa.array(range(5), pa.int32())
CODES = pa.array([0, 1, 0, 0], pa.int8())
SPARSE = pa.UnionArray.from_sparse(CODES, [TEXTS, NUMBERS])
DENSE = pa.UnionArray.from_dense(CODES, pa.array([3, 2, 0, 0], pa.int32()), [TEXTS, NUMBERS])
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array(["a", "b"]))

COLUMNS: dict[str, tuple[pa.Array, list[list[Any]]]] = {
    "texts": (TEXTS, [["a", "b", "c", "d"]]),
    "a dictionary": (pa.DictionaryArray.from_arrays(pa.array([2, None, 0, 2]), TEXTS), [["a", "c"]]),
    "runs": (RUNS, [["a", "b"]]),
    "lists": (pa.ListArray.from_arrays(ENDS, TEXTS, mask=SECOND_IS_NULL), [["a", "c", "d"]]),
    "lists of two": (
        pa.FixedSizeListArray.from_arrays(pa.array(range(8)), 2, mask=SECOND_IS_NULL),
        [[0, 1, 4, 5, 6, 7]],
    ),
    "lists of none": (pa.array([[], [], None, []], pa.list_(pa.int64(), 0)), []),
    "views of lists": (
        pa.ListViewArray.from_arrays(pa.array([1, 0, 1, 1], pa.int32()), pa.array([2, 0, 1, 2], pa.int32()), TEXTS),
        [["b", "c"]],
    ),
    "maps": (pa.MapArray.from_arrays(ENDS, TEXTS, NUMBERS), [["a", "b", "c", "d"], [0, 1, 2, 3]]),
    "structs": (pa.StructArray.from_arrays([TEXTS], names=["x"], mask=SECOND_IS_NULL), [["a", "c", "d"]]),
    "structs with a union": (
        pa.StructArray.from_arrays([SPARSE], names=["x"], mask=SECOND_IS_NULL),
        [["a", "c", "d"]],
    ),
    "structs with runs": (pa.StructArray.from_arrays([RUNS], names=["x"], mask=SECOND_IS_NULL), [["a", "b"]]),
    "a sparse union": (SPARSE, [["a", "c", "d"], [1]]),
    "a dense union": (DENSE, [["a", "d"], [2]]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_value_that_rows_show_is_there_once_and_no_other(name: str) -> None:
    column, expected = COLUMNS[name]
    assert [leaf.values.to_pylist() for leaf in leaves(column)] == expected


@pytest.mark.parametrize("name", COLUMNS)
def test_of_a_slice_there_is_only_what_it_shows(name: str) -> None:
    column, _ = COLUMNS[name]
    for start in range(5):
        part = column.slice(start)
        copied = pa.concat_arrays([column[row : row + 1] for row in range(start, 4)]) if start < 4 else part
        mine, its = ([set(leaf.values.to_pylist()) for leaf in leaves(it)] for it in (part, copied))
        assert mine == its, f"from row {start} on"


def test_only_the_names_of_maps_are_keys() -> None:
    column = pa.MapArray.from_arrays(ENDS, TEXTS, NUMBERS)
    assert [leaf.are_keys for leaf in leaves(column)] == [True, False]


def test_dense_unions_in_structs_with_many_nulls_are_not_copied_for_each_value() -> None:
    count = 10_000
    texts = pa.array(["x" * 50] * count)
    union = pa.UnionArray.from_dense(pa.array([0] * count, pa.int8()), pa.array(range(count), pa.int32()), [texts])
    nulls = pa.array([row % 2 == 1 for row in range(count)])
    before = pa.total_allocated_bytes()
    found = list(leaves(pa.StructArray.from_arrays([union], names=["u"], mask=nulls)))
    assert sum(len(leaf.values) for leaf in found) == count // 2
    assert pa.total_allocated_bytes() - before < 10 * texts.nbytes


def test_a_column_that_can_be_has_one_array_for_each_of_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    nulls = pa.array([row % 2 == 1 for row in range(1000)])
    column = pa.StructArray.from_arrays([pa.array(range(1000)), pa.array(["x"] * 1000)], names=["a", "b"], mask=nulls)
    monkeypatch.setattr(pa, "concat_arrays", lambda _: pytest.fail("it is taken apart by slices, one for each gap"))
    assert [len(leaf.values) for leaf in leaves(column)] == [500, 500]
