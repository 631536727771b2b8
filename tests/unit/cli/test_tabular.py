"""Results as CSV, Parquet, Arrow and JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.tabular import convert, type_of_file
from noetl_serverless.tables.media_types import MEDIA_TYPES, Form
from noetl_serverless.tables.stream import in_field, write_table

ARROW, PARQUET = MEDIA_TYPES["arrow"], MEDIA_TYPES["parquet"]

ROWS = [{"n": n, "text": f"ü{n}", "list": [n], "bytes": b"\x00\x01"} for n in range(25_000)]
PLAIN = [{**row, "bytes": "AAE="} for row in ROWS]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "result"


def arrow(path: Path, value: Any = None, tables: int = 1) -> None:
    table = pa.Table.from_pylist(ROWS)
    with path.open("wb") as file:
        for number in range(tables):
            write_table(file.fileno(), table, value if number == tables - 1 else None)


def converted(source: Path, content_type: str, wanted: Form, table: str | None = None) -> bytes:
    target = io.BytesIO()
    convert(source, content_type, target, wanted, table)
    return target.getvalue()


def test_a_table_of_arrow_in_each_format(source: Path) -> None:
    arrow(source)
    assert json.loads(converted(source, ARROW, "json")) == PLAIN
    assert pyarrow.parquet.read_table(io.BytesIO(converted(source, ARROW, "parquet"))).to_pylist() == ROWS
    assert pa.ipc.open_stream(converted(source, ARROW, "arrow")).read_all().to_pylist() == ROWS
    read = pyarrow.csv.read_csv(io.BytesIO(converted(source, ARROW, "csv"))).to_pylist()
    # what has no form in CSV is what JSON has for it
    assert read[7] == {"n": 7, "text": "ü7", "list": "[7]", "bytes": "AAE="} and len(read) == len(ROWS)


def test_a_table_in_a_field_is_converted_alone_and_json_has_the_rest(source: Path) -> None:
    arrow(source, in_field("rows", {"count": 3, "note": "seen"}))
    assert json.loads(converted(source, ARROW, "json")) == {"count": 3, "note": "seen", "rows": PLAIN}
    assert pyarrow.parquet.read_table(io.BytesIO(converted(source, ARROW, "parquet"))).num_rows == len(ROWS)


def test_of_several_tables_none_is_chosen(source: Path) -> None:
    arrow(source, {"rest": {"a": None, "b": [None]}, "tables": [[["a"], 0], [["b", 0], 1]]}, tables=2)
    assert json.loads(converted(source, ARROW, "json")) == {"a": PLAIN, "b": [PLAIN]}
    with pytest.raises(Failure, match=r"2 tables: a, b\.0\. --table NAME chooses one"):
        converted(source, ARROW, "csv")
    assert converted(source, ARROW, "csv", "b.0").count(b"\n") == len(ROWS) + 1
    assert json.loads(converted(source, ARROW, "json", "b.0")) == PLAIN
    with pytest.raises(Failure, match=r"no table 'c': there are a, b\.0"):
        converted(source, ARROW, "csv", "c")


def test_a_table_is_chosen_among_lists_of_objects_too_as_small_results_have_them(source: Path) -> None:
    source.write_text(json.dumps({"a": [{"x": 1}], "b": {"c": [{"y": 2}]}, "n": [1, 2]}))
    with pytest.raises(Failure, match=r"2 tables: a, b\.c\. --table"):
        converted(source, "application/json", "ndjson")
    assert converted(source, "application/json", "ndjson", "b.c") == b'{"y":2}\n'
    source.write_text(json.dumps({"rows": [{"x": 1}], "errors": [{"y": 2}]}))
    assert converted(source, "application/json", "ndjson") == b'{"x":1}\n', "rows is the usual one"
    source.write_text("[]")
    assert (converted(source, "application/json", "ndjson"), converted(source, "application/json", "json")) == (
        b"",
        b"[]\n",
    )


def test_columns_that_only_later_rows_have_are_not_lost(source: Path) -> None:
    source.write_text(json.dumps([{"a": 1}, {"b": "x"}]))
    assert converted(source, "application/json", "csv") == b'"a","b"\n1,\n,"x"\n'


def test_of_a_column_with_values_of_several_types_the_rows_are_named(source: Path) -> None:
    source.write_text(json.dumps([{"a": None}, {"a": 1}, {"a": 2.5}, {"a": "x"}]))
    with pytest.raises(Failure, match=r"column 'a': int in row 1, str in row 3"):
        converted(source, "application/json", "parquet")
    # which needs no type for a column
    assert converted(source, "application/json", "csv") == b'"a"\n""\n1\n2.5\n"x"\n'


def test_an_empty_table_in_each_form(source: Path) -> None:
    with source.open("wb") as file:
        write_table(file.fileno(), pa.table({"n": pa.array([], pa.int64())}))
    assert [converted(source, ARROW, form) for form in ("json", "ndjson", "csv")] == [b"[]\n", b"", b'"n"\n']
    assert pyarrow.parquet.read_table(io.BytesIO(converted(source, ARROW, "parquet"))).num_rows == 0


@pytest.mark.parametrize("value", [[{"a": 1, "b": "x"}, {"a": 2, "b": None}], {"rows": [{"a": 1}, {"a": 2}], "n": 2}])
def test_a_list_of_objects_is_a_table(source: Path, value: Any) -> None:
    source.write_text(json.dumps(value))
    rows = value if isinstance(value, list) else value["rows"]
    assert pyarrow.parquet.read_table(io.BytesIO(converted(source, "application/json", "parquet"))).to_pylist() == rows


def test_csv_and_parquet_are_read_too(source: Path) -> None:
    source.write_text("a,b\n1,x\n2,y\n")
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert json.loads(converted(source, "text/csv; charset=utf-8", "json")) == rows
    source.write_bytes(converted(source, "text/csv", "parquet"))
    assert pa.ipc.open_stream(converted(source, PARQUET, "arrow")).read_all().to_pylist() == rows


@pytest.mark.parametrize(
    ("content", "content_type", "said"),
    [
        (b"seen", "text/plain", "text/plain cannot be converted"),
        (b"[1, 2]", "application/json", "no table"),
        (b'{"rows": 3}', "application/json", "no table"),
        (b"{", "application/json", "cannot be converted to csv"),
        (b"{", ARROW, "cannot be converted to csv"),
    ],
)
def test_what_is_no_table_is_a_failure(source: Path, content: bytes, content_type: str, said: str) -> None:
    source.write_bytes(content)
    with pytest.raises(Failure, match=said):
        converted(source, content_type, "csv")


def test_without_pyarrow_the_message_says_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Failure, match=r"pip install 'noetl-serverless\[tools\]'"):
        convert(source, ARROW, io.BytesIO(), "csv")


def test_the_type_of_a_file_is_that_of_its_ending() -> None:
    names = ("a.CSV", "b.parquet", "c.jsonl", "d.pdf", "e")
    assert [type_of_file(Path(name)) for name in names] == [
        *("text/csv", PARQUET, "application/x-ndjson", "application/pdf", "application/octet-stream"),
    ]
