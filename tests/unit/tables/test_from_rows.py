from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.tables.from_rows import is_rows, table_of


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
