from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.tools.postgres_bytea import BYTEA, BYTEA_ARRAY, NotBytes
from noetl_serverless.tools.postgres_copy import columns_of, copy_text, quoted

TEXT = 25


def test_columns_are_all_keys_in_order_of_appearance() -> None:
    assert columns_of([{"b": 1, "a": 2}, {"a": 1, "c": 2}]) == ["b", "a", "c"]


def test_values_are_written_as_copy_reads_them() -> None:
    rows = [{"a": "tab\tnew\nback\\", "b": None, "c": True, "d": {"k": "x\n"}, "e": ["p", 'q"'], "f": [1]}]
    (chunk,) = copy_text(rows, "abcdef", [TEXT] * 6, [False, False, False, False, True, False])
    fields = chunk.decode().rstrip("\n").split("\t")
    assert fields == ["tab\\tnew\\nback\\\\", "\\N", "t", '{"k":"x\\\\n"}', '{"p","q\\\\""}', "[1]"]


def test_what_would_end_a_line_or_a_field_is_escaped() -> None:
    (chunk,) = copy_text([{"a": "1\r2\n3\t4\\5"}], "a", [TEXT], [False])
    assert chunk == b"1\\r2\\n3\\t4\\\\5\n"


def test_a_missing_key_is_null_and_many_rows_come_in_chunks() -> None:
    chunks = list(copy_text(({"a": "x" * 1000} for _ in range(500)), ["a", "b"], [TEXT] * 2, [False, False]))
    assert len(chunks) > 2
    assert b"".join(chunks).count(b"\t\\N\n") == 500


def test_names_are_quoted_part_by_part() -> None:
    assert quoted('s."t') == '"s"."""t"'


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("AP8=", r"\\x00ff"),
        (r"\x00FF", r"\\x00ff"),
        ("", r"\\x"),
        # PostgreSQL breaks the lines of its base64
        ("AP\n8=", r"\\x00ff"),
        (None, r"\N"),
    ],
)
def test_a_text_for_a_column_of_bytes_is_base64_or_hex(value: Any, field: str) -> None:
    (chunk,) = copy_text([{"b": value}], "b", [BYTEA], [False])
    assert chunk.decode() == field + "\n"


def test_lists_for_an_array_of_bytes_have_such_texts_at_any_depth() -> None:
    rows: list[dict[str, Any]] = [{"b": [["AP8="], [None]]}, {"b": '["AP8="]'}, {"b": r'{"\\x00"}'}, {"b": None}]
    (chunk,) = copy_text(rows, "b", [BYTEA_ARRAY], [True])
    # a backslash is doubled in a text of an array, and again for COPY
    assert chunk.decode().splitlines() == [r'{{"\\\\x00ff"},{NULL}}', r'{"\\\\x00ff"}', r'{"\\\\x00"}', r"\N"]


@pytest.mark.parametrize("value", ["no base64", "AP8", r"\x0", "\u00fc", 1, {"k": 1}])
def test_anything_else_in_a_column_of_bytes_is_refused_where_it_is(value: Any) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": "AP8="}, {"a": 1, "b": value}]
    with pytest.raises(NotBytes) as caught:
        list(copy_text(rows, "ab", [TEXT, BYTEA], [False, False]))
    assert str(caught.value).startswith("row 1 (counted from 0), column 'b': the column is bytea, and takes base64, or")
    assert str(value) not in str(caught.value) or value == 1, "the value may be a secret"
