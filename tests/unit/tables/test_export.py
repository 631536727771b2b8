"""A table in pieces, of which few are in memory at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from noetl_serverless.tables.export import Batches, NoTable, pieces
from noetl_serverless.tables.invalid import InvalidTable, RowTooLarge
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import Form
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import BATCH_BYTES, write_table
from noetl_serverless.tables.table import CHUNK_ROWS, Table
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


def small(*numbers: int) -> Table:
    descriptor = memory_file()
    return Table(MappedFile(descriptor, write_table(descriptor, pa.table({"n": list(numbers)})).bytes))


ITEMS: list[dict[str, Any]] = [
    {"rows": [{"n": 1}, {"n": 2}], "x": 1},
    {"rows": [{"n": 7}], "x": [None]},
    {"rows": [{"n": 3}], "x": 3},
]


def items() -> list[Any]:
    """As a loop gives them."""
    return [{**item, "rows": small(*(row["n"] for row in item["rows"]))} for item in ITEMS]


def test_a_list_of_objects_with_tables_in_them_is_had_as_json() -> None:
    cases: list[tuple[Any, Any]] = [
        (items(), ITEMS),
        ({"results": items(), "n": 1}, {"results": ITEMS, "n": 1}),
        ([small(1), small(2, 3)], [[{"n": 1}], [{"n": 2}, {"n": 3}]]),
    ]
    for value, expected in cases:
        assert orjson.loads(b"".join(pieces(value, "json"))) == expected
    named: list[tuple[Any, str | None]] = [(items(), None), ({"all": items()}, "all")]
    for value, table in named:
        lines = b"".join(pieces(value, "ndjson", table)).splitlines()
        assert [orjson.loads(line) for line in lines] == ITEMS, "an item has other than one line"


def test_a_table_of_one_of_its_items_is_chosen_and_the_list_itself_has_no_columns() -> None:
    value = {"all": items(), "tables": [small(4)]}
    assert b"".join(pieces(value, "csv", "all.2.rows")) == b'"n"\n3\n'
    assert b"".join(pieces(value, "csv", "tables.0")) == b'"n"\n4\n'
    for table, message in (("all", "no columns"), (None, "4 tables")):
        with pytest.raises(NoTable, match=message) as refused:
            b"".join(pieces(value, "csv", table))
        assert "all.0.rows" in refused.value.tables and "object at" not in str(refused.value)


def test_of_what_was_accumulated_that_is_meant_and_not_the_rows_of_the_last_page() -> None:
    value = {"rows": small(3), "all": small(1, 3), "some": items(), "merged": {"rows": small(5), "n": 1}, "n": [1]}
    assert b"".join(pieces(value, "csv", accumulated=["all"])) == b'"n"\n1\n3\n'
    assert b"".join(pieces(value, "csv", accumulated=["gone", "all"])) == b'"n"\n1\n3\n', "one that is not there counts"
    assert b"".join(pieces(value, "csv", "rows", ["all"])) == b'"n"\n3\n', "what is named is not what is given"
    assert b"".join(pieces(value, "csv", accumulated=["merged"])) == b'"n"\n5\n'
    lines = b"".join(pieces(value, "ndjson", accumulated=["some"])).splitlines()
    assert [orjson.loads(line) for line in lines] == ITEMS
    for accumulated, message in (
        (["all", "merged"], "2 fields were accumulated: all, merged"),
        (["n"], "'n', which was accumulated, is no table"),
        (["some"], "it has no columns"),
    ):
        with pytest.raises(NoTable, match=message) as refused:
            b"".join(pieces(value, "csv", accumulated=accumulated))
        assert refused.value.tables[:2] == ("rows", "all")


def test_of_two_tables_with_one_name_none_is_given() -> None:
    value = {"a": {"b": [{"n": 1}]}, "a.b": [{"n": 2}], "c": [{"n": 3}]}
    with pytest.raises(NoTable, match=r"'a\.b' names 2 tables") as refused:
        b"".join(pieces(value, "csv", "a.b"))
    assert refused.value.tables == ("a.b", "c")
    assert b"".join(pieces(value, "csv", "c")) == b'"n"\n3\n'


@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_a_text_that_would_take_too_much_memory_is_refused(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 1 << 20)
    batch = pa.record_batch([pa.array(range(2)), pa.array(["x", "x" * 2_000_000])], names=["n", "text"])
    with pytest.raises(RowTooLarge, match="row 1, column 'text': as a value the row takes at least 1 MiB"):
        list(pieces(Batches(batch.schema, iter([batch])), form))


def test_a_list_of_objects_is_csv_whatever_its_values_are() -> None:
    mixed: list[dict[str, Any]] = [
        {"a": 1, "b": {"x": 1}, "c": 2**63},
        {"a": 2.5, "b": {"y": [1, "x"]}, "c": 2**53 + 1},
        {"a": "x", "b": None, "c": 0.5},
        {"a": True, "d": "\ud800"},
    ]
    expected = (
        b'"a","b","c","d"\n'
        b'1,"{""x"":1}",9223372036854775808,\n'
        b'2.5,"{""y"":[1,""x""]}",9007199254740993,\n'
        b'"x",,0.5,\n'
        b'true,,,"""\\ud800"""\n'
    )
    assert b"".join(pieces(mixed, "csv")) == expected, "a cell has another text than JSON has"
    assert b"".join(pieces({"rows": mixed}, "csv")) == expected
    assert b"".join(pieces([], "csv")) == b"\n" and b"".join(pieces([{}], "csv")) == b"\n"


def test_few_rows_of_many_names_are_a_piece_of_csv() -> None:
    rows = [{f"name{number}": number} for number in range(2_000)]
    found = list(pieces(rows, "csv"))
    assert len(found) >= 20, "the lines of each piece have millions of cells"
    assert b"".join(found).count(b"\n") == 2_001


def test_large_integers_of_a_list_are_had_in_each_form() -> None:
    rows = [{"h": 2**63 + number} for number in range(20)]
    written = b"".join(pieces(rows, "parquet"))
    assert parquet.read_table(pa.BufferReader(written)).to_pylist() == rows
    assert pa.ipc.open_stream(b"".join(pieces(rows, "arrow"))).read_all().to_pylist() == rows


@pytest.mark.parametrize("is_in_row", [True, False])
def test_what_is_nested_too_deeply_is_refused(is_in_row: bool) -> None:
    deep: Any = 1
    for _ in range(1000):
        deep = [deep]
    value = {"rows": [{"a": deep}]} if is_in_row else {"rows": [{"a": 1}], "deep": deep}
    with pytest.raises(InvalidTable, match="nested too deeply"):
        list(pieces(value, "parquet", is_json=is_in_row))
