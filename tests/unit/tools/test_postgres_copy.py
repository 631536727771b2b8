from __future__ import annotations

from noetl_serverless.tools.postgres_copy import columns_of, copy_text, quoted


def test_columns_are_all_keys_in_order_of_appearance() -> None:
    assert columns_of([{"b": 1, "a": 2}, {"a": 1, "c": 2}]) == ["b", "a", "c"]


def test_values_are_written_as_copy_reads_them() -> None:
    rows = [{"a": "tab\tnew\nback\\", "b": None, "c": True, "d": {"k": "x\n"}, "e": ["p", 'q"'], "f": [1]}]
    (chunk,) = copy_text(rows, "abcdef", [False, False, False, False, True, False])
    fields = chunk.decode().rstrip("\n").split("\t")
    assert fields == ["tab\\tnew\\nback\\\\", "\\N", "t", '{"k":"x\\\\n"}', '{"p","q\\\\""}', "[1]"]


def test_what_would_end_a_line_or_a_field_is_escaped() -> None:
    (chunk,) = copy_text([{"a": "1\r2\n3\t4\\5"}], "a", [False])
    assert chunk == b"1\\r2\\n3\\t4\\\\5\n"


def test_a_missing_key_is_null_and_many_rows_come_in_chunks() -> None:
    chunks = list(copy_text(({"a": "x" * 1000} for _ in range(500)), ["a", "b"], [False, False]))
    assert len(chunks) > 2
    assert b"".join(chunks).count(b"\t\\N\n") == 500


def test_names_are_quoted_part_by_part() -> None:
    assert quoted('s."t') == '"s"."""t"'
