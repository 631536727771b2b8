from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noetl_serverless.archive import parquet
from noetl_serverless.archive.parquet import TableWriter, columns, digest_of

ROWS: list[list[Any]] = [
    [7, 1, None, "playbook.initialized", None, None, None, 1_700_000_000_000_001, "{}"],
    [7, 2, 1, "command.issued", "é", 1, "é#1", 1_700_000_000_000_002, '{"a": 1}'],
    [2**62, 3, 1, "step.exit", "", 1, None, 0, "[]"],
]


def write(path: Path, rows: list[list[Any]]) -> TableWriter:
    writer = TableWriter("events", path)
    for row in rows:
        writer.add(row)
    writer.close()
    return writer


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer = write(tmp_path / "e", ROWS)
    assert digest_of("events", tmp_path / "e") == (3, writer.digest)
    table = pq.read_table(tmp_path / "e")
    assert tuple(table.column_names) == columns("events")
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert table.column("execution_id").to_pylist() == [7, 7, 2**62]
    assert table.column("step").to_pylist() == [None, "é", ""]


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 1, 9), (1, 8, '{"a": 2}'), (0, 4, ""), (2, 7, 1), (1, 4, "é#")]
)
def test_another_value_is_another_digest(tmp_path: Path, row: int, column: int, value: Any) -> None:
    writer = write(tmp_path / "e", ROWS)
    changed = [list(values) for values in ROWS]
    changed[row][column] = value
    write(tmp_path / "other", changed)
    assert digest_of("events", tmp_path / "other")[1] != writer.digest
    write(tmp_path / "fewer", ROWS[:2])
    assert digest_of("events", tmp_path / "fewer")[0] == 2


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "e", ROWS)
    with pytest.raises(ValueError, match="columns"):
        digest_of("results", tmp_path / "e")


def test_a_table_of_nothing_has_its_columns(tmp_path: Path) -> None:
    TableWriter("results", tmp_path / "r").close()
    assert pq.read_schema(tmp_path / "r").names == list(columns("results"))


def test_much_goes_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    writer = write(tmp_path / "e", ROWS)
    assert pq.ParquetFile(tmp_path / "e").num_row_groups == 2
    assert digest_of("events", tmp_path / "e") == (3, writer.digest)
