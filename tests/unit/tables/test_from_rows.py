from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables.from_rows import is_rows, table_of, typed_table


@pytest.mark.parametrize(
    ("value", "expected"),
    [([{"n": 1}], True), ([{}], True), ([], False), ([{"n": 1}, 2], False), ({"n": 1}, False), ("text", False)],
)
def test_rows_are_a_list_of_objects(value: Any, expected: bool) -> None:
    assert is_rows(value) is expected


def test_every_key_is_a_column_of_one_type() -> None:
    table = table_of([{"n": 1, "mixed": 1, "d": {"x": 1}}, {"n": 2.5, "mixed": "a"}, {"more": [1, 2]}])
    assert table.to_pylist() == [
        {"n": 1.0, "mixed": "1", "d": {"x": 1}, "more": None},
        {"n": 2.5, "mixed": "a", "d": None, "more": None},
        {"n": None, "mixed": None, "d": None, "more": [1, 2]},
    ]


def test_no_rows_are_a_table_without_columns() -> None:
    assert (table_of([]).num_rows, table_of([]).num_columns) == (0, 0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2**63, 1, None], pa.uint64()),
        ([2**64 - 1, -(2**63)], pa.decimal128(20, 0)),
        ([{"x": 1}, {"y": [2**63]}], pa.struct([("x", pa.int64()), ("y", pa.list_(pa.uint64()))])),
        ([None, 2**53, 0.5], pa.float64()),
        ([2**62, 1], pa.int64()),
    ],
)
def test_integers_keep_their_digits_up_to_64_bits(values: list[object], kind: pa.DataType) -> None:
    for table in (typed_table, table_of):
        found = table([{"n": value} for value in values])
        assert found.schema.field("n").type == kind, f"{table.__name__} gives another type"
    if not pa.types.is_struct(kind):
        assert found["n"].to_pylist() == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, 1, "x"], r"column 'v': int in row 1, str in row 2 \(counted from 0\)"),
        ([1, True], r"int in row 0, bool in row 1"),
        ([[1], [None, 2, "x"]], r"int in row 0, str in row 1"),
        ([[1, "x"]], r"int and str in row 0"),
        ([{"a": True}, {"b": 1}, {"a": 1}], r"bool in row 0, int in row 2"),
        ([1, 2**53 + 1, 0.5], r"the integer 9007199254740993 in row 1 is beyond 2\*\*53, and row 2 has a float"),
        ([1, 2**64], r"the integer in row 1 \(counted from 0\) has more than 64 bits"),
        (["a", "\ud800"], r"the text in row 1 \(counted from 0\) has half of a surrogate pair"),
    ],
)
def test_what_has_no_type_in_common_is_refused_with_its_column_and_rows(values: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        typed_table([{"n": row, "v": value} for row, value in enumerate(values)])
    assert str(refused.value).startswith("column 'v': ")
