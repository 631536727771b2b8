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
from noetl_serverless.cli.tabular import ARROW, PARQUET, Format, convert, format_of
from noetl_serverless.tables.stream import in_field, write_table

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


def converted(source: Path, content_type: str, wanted: Format) -> bytes:
    target = io.BytesIO()
    # what writes Parquet closes what it has opened alone
    convert(source, content_type, target, wanted)
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
    with pytest.raises(Failure, match=r"2 tables \(a, b\.0\)"):
        converted(source, ARROW, "csv")


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
        (b'[{"a": 1}, {"a": "x"}]', "application/json", "cannot be converted to csv"),
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


def test_the_format_of_a_type() -> None:
    assert [format_of(text) for text in (ARROW, "Text/CSV; header=present", "image/png")] == ["arrow", "csv", None]
