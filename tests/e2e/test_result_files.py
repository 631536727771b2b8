"""Results as files: put, listed, read in several formats and deleted from the command line, on a running stack."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.e2e.stack import PLAYBOOKS, Stack

ROWS = 200_000


@pytest.fixture(scope="module")
def ended(stack: Stack) -> str:
    """The id of an execution that has ended."""
    return str(stack.run(PLAYBOOKS / "hello.yaml")["execution_id"])


@pytest.fixture(scope="module")
def arrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of Arrow in a file of about 10 MB."""
    path = tmp_path_factory.mktemp("tables") / "table.arrows"
    table = pa.table({"n": range(ROWS), "text": [f"row {n}" for n in range(ROWS)], "list": [[n] for n in range(ROWS)]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=10_000)
    return path


def test_a_table_goes_in_and_comes_out_in_each_format(stack: Stack, ended: str, arrow: Path, tmp_path: Path) -> None:
    done = stack("result", "put", ended, "table", str(arrow), "--step", "load", "--ttl", "1d")
    assert done.status == 0, done.err
    ref = done.out.strip()
    same = tmp_path / "same.arrows"
    assert stack("result", "get", ref, "-o", str(same)).status == 0
    assert same.read_bytes() == arrow.read_bytes()
    for ending in ("csv", "parquet", "json", "arrow"):
        done = stack("result", "get", ended, "load", "--as", ending, "-o", str(tmp_path / f"table.{ending}"))
        assert done.status == 0, done.err
    rows = json.loads((tmp_path / "table.json").read_text())
    assert (len(rows), rows[-1]) == (ROWS, {"n": ROWS - 1, "text": f"row {ROWS - 1}", "list": [ROWS - 1]})
    assert pyarrow.parquet.read_table(tmp_path / "table.parquet").num_rows == ROWS
    read = pyarrow.csv.read_csv(tmp_path / "table.csv")
    assert (read.num_rows, read.column("list")[7].as_py()) == (ROWS, "[7]")
    (entry,) = stack.ask("result", "list", ended, "--step", "load")
    assert (entry["ref"], entry["content_type"]) == (ref, "application/vnd.apache.arrow.stream")
    assert ref in stack("result", "list", ended).out
    assert not list(tmp_path.glob(".*.part")), "nothing else is left in the folder"
    assert stack("result", "delete", ref).out == "deleted 1 result\n"
    gone = stack("result", "get", ref, "-o", str(tmp_path / "gone"))
    assert gone.status != 0 and "deleted" in gone.err
    assert not (tmp_path / "gone").exists(), "a file is written whole or not at all"


def test_standard_input_and_output(stack: Stack, ended: str) -> None:
    rows = '[{"a": 1, "b": "x"}, {"a": 2, "b": "ü"}]'
    done = stack("result", "put", ended, "rows", "-", "--as-type", "application/json", input=rows)
    assert done.status == 0, done.err
    assert stack("result", "get", ended, "rows").out == rows
    assert stack("result", "get", ended, "rows", "--as", "csv").out == '"a","b"\n1,"x"\n2,"ü"\n'
    again = stack("result", "put", ended, "rows", "-", "--as-type", "application/json", input=rows)
    assert (again.out, "already" in again.err) == (done.out, True)
    text = stack("result", "put", ended, "note", "-", "--as-type", "text/plain", input="seen")
    refused = stack("result", "get", text.out.strip(), "--as", "csv")
    assert refused.status == 1 and "text/plain cannot be converted" in refused.err
    assert stack("result", "delete", ended, "--all").out == "deleted 2 results\n"
    assert stack.ask("result", "list", ended) == []


@pytest.mark.parametrize(
    "words",
    [
        ["get", "noetl://execution/1/result/x"],
        ["get", "7"],
        ["get", "noetl://execution/1/result/x/00000000", "step"],
        ["put", "7", "x", "/no/such/file"],
        ["delete", "7"],
        ["delete", "noetl://execution/1/result/x/00000000", "--all"],
        ["list", "a/b"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_wrong_use(stack: Stack, words: list[str]) -> None:
    assert stack("result", *words).status == 2
