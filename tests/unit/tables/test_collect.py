from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pytest

from noetl_serverless.tables.collect import collect, few_rows
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.sealed import FilesInMemory
from noetl_serverless.tables.table import InvalidTable, Table
from noetl_serverless.tables.value import file_of

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


class Files(FilesInMemory):
    """Opens files, and knows how many are open."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, int]] = []

    def open(self, size: int) -> int:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        self.opened.append((descriptor, size))
        return descriptor


@pytest.fixture
def files() -> Files:
    return Files()


def batches(count: int, rows: int = 100) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield pa.record_batch([list(range(number * rows, (number + 1) * rows)), ["x" * 10] * rows], schema=SCHEMA)


def collected(files: Files, found: Iterator[pa.RecordBatch], limit: int) -> dict[str, Any]:
    return collect(
        SCHEMA, found, files, inline_bytes=limit, field="rows", rest=lambda count: {"row_count": count, "more": "x"}
    )


def test_few_rows_are_a_list(files: Files) -> None:
    result = collected(files, batches(3), 64_000)
    assert result["row_count"] == 300
    assert result["rows"] == [{"n": n, "text": "x" * 10} for n in range(300)]
    assert type(result["rows"]) is list
    assert files.opened == []


def test_many_rows_are_a_table_that_reads_the_same(files: Files) -> None:
    result = collected(files, batches(100), 64_000)
    assert isinstance(result["rows"], Table)
    assert {name: value for name, value in result.items() if name != "rows"} == {"row_count": 10_000, "more": "x"}
    assert result["rows"] == [{"n": n, "text": "x" * 10} for n in range(10_000)]
    assert file_of(result, files) is result["rows"].file, "it would be written again"
    assert len(files.opened) == 1


def test_the_limit_is_that_of_the_json(files: Files) -> None:
    rows = [row for batch in batches(7) for row in batch.to_pylist()]
    size = len(orjson.dumps(rows))
    assert type(collected(files, batches(7), size)["rows"]) is list
    assert isinstance(collected(files, batches(7), size - 1)["rows"], Table)


@pytest.mark.parametrize("rows", [1, 2, 600])
def test_the_limit_is_that_of_the_json_also_of_the_shortest_rows(rows: int) -> None:
    batch = pa.record_batch([[1] * rows, [2] * rows], names=["é", 'b"'])
    size = len(orjson.dumps(batch.to_pylist()))
    assert few_rows(iter([batch]), size)[0] == batch.to_pylist()
    assert few_rows(iter([batch]), size - 1)[0] is None


def test_no_rows_are_a_list_unless_all_results_are_tables(files: Files) -> None:
    assert collected(files, batches(0), 2)["rows"] == []
    empty = collected(files, batches(0), 0)
    assert (len(empty["rows"]), empty["rows"].schema, empty["row_count"]) == (0, SCHEMA, 0)


def test_a_limit_of_zero_makes_every_result_a_table(files: Files) -> None:
    assert isinstance(collected(files, batches(1, rows=1), 0)["rows"], Table)


def test_what_fails_half_way_leaves_no_file_open(files: Files) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(100)
        raise RuntimeError("the server has gone")

    with pytest.raises(RuntimeError, match="has gone"):
        collected(files, broken(), 1_000)
    ((descriptor, _),) = files.opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def wide(value: Any, kind: pa.DataType, rows: int = 1, form: Any = None) -> pa.RecordBatch:
    column = pa.array([value], kind).take(pa.array([0] * rows))
    return pa.RecordBatch.from_arrays([column], schema=pa.schema([field_of("v", kind, form)]))


@pytest.mark.parametrize(
    "batch",
    [
        wide("x" * 1_000_000, pa.string(), rows=60),
        wide([0] * 1_000_000, pa.list_(pa.int8())),
        wide([None] * 1_000_000, pa.list_(pa.null())),
        wide([{"a": [1] * 1_000_000}], pa.list_(pa.struct([("a", pa.list_(pa.int8()))]))),
        wide("[" + "1," * 1_000_000 + "1]", pa.string(), form="json"),
    ],
    ids=["texts", "items", "nulls", "nested", "documents"],
)
def test_large_rows_are_a_table_and_none_is_converted(
    files: Files, batch: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "noetl_serverless.tables.collect.small_rows_of", lambda *_: pytest.fail("a large row was converted")
    )
    rows, read = few_rows(iter([batch]), 64_000)
    assert rows is None
    assert read == [batch]


def test_a_document_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidTable, match=r"row 1, column 'v': the text is no JSON"):
        few_rows(iter([wide("1", pa.string(), form="json"), wide("{bad", pa.string(), form="json")]), 64_000)
    with pytest.raises(InvalidTable, match="a document in it is not JSON"):
        few_rows(iter([wide(r'"\ud800"', pa.string(), form="json")]), 64_000)
