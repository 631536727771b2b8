"""Results as files: put, listed, read in several formats and deleted from the command line, on a running stack."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.csv
import pytest
from tests.e2e.stack import PLAYBOOKS, Stack

ROWS = 50_000
MIB = 1024 * 1024
SENT = 96 * MIB


@pytest.fixture(scope="module")
def ended(stack: Stack) -> str:
    """The id of an execution that has ended."""
    return str(stack.run(PLAYBOOKS / "hello.yaml")["execution_id"])


@pytest.fixture(scope="module")
def arrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of Arrow in a file."""
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
    for ending in ("csv", "json"):
        # which says what form is wanted
        done = stack("result", "get", ended, "load", "-o", str(tmp_path / f"table.{ending}"))
        assert done.status == 0, done.err
        assert f"{(tmp_path / f'table.{ending}').stat().st_size:,} bytes written" in done.err
    rows = json.loads((tmp_path / "table.json").read_text())
    assert (len(rows), rows[-1]) == (ROWS, {"n": ROWS - 1, "text": f"row {ROWS - 1}", "list": [ROWS - 1]})
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


def test_the_result_of_a_step_is_read_whatever_its_size_and_in_a_form(stack: Stack, ended: str, tmp_path: Path) -> None:
    small = stack("result", "get", ended, "greet")
    assert small.status == 0 and json.loads(small.out), small.err
    plain = tmp_path / "greet"
    assert stack("result", "get", ended, "greet", "-o", str(plain)).status == 0
    assert plain.read_text() == small.out, "a file without an ending has it as it is stored"
    for name in ("greet.xlsx", "greet.csv.gz"):
        refused = stack("result", "get", ended, "greet", "-o", str(tmp_path / name))
        assert refused.status == 2 and f"{name}: no form of a result" in refused.err, refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["greet"], "what was refused is written"
    ref = stack("result", "put", ended, "note", "-", "--as-type", "application/pdf", input="%PDF").out.strip()
    assert stack("result", "get", ref, "-o", str(tmp_path / "note.pdf")).status == 0, "it is no table in any form"
    assert stack("result", "delete", ref).status == 0


def test_what_is_not_there_cannot_be_deleted(stack: Stack, ended: str) -> None:
    for wrong in ([f"noetl://execution/{ended}/result/none/0a1b2c3d"], [ended, "--step", "graet"]):
        done = stack("result", "delete", *wrong)
        assert (done.status, done.out) == (1, ""), done.err
        assert "no result" in done.err
    refused = stack("result", "get", ended, "graet")
    assert refused.status != 0 and "has no such step" in refused.err and "greet" in refused.err, refused.err


def test_what_says_that_it_is_json_is_json(stack: Stack, ended: str) -> None:
    refused = stack("result", "put", ended, "bad", "-", "--as-type", "application/json", input='{"a":\n 1,}')
    assert refused.status != 0 and "line 2, column" in refused.err, refused.err


def test_a_table_of_several_is_chosen(stack: Stack, ended: str) -> None:
    content = json.dumps({"a": [{"x": 1}], "b": [{"y": 2}]})
    ref = stack("result", "put", ended, "several", "-", "--as-type", "application/json", input=content).out.strip()
    refused = stack("result", "get", ref, "--as", "csv")
    assert refused.status == 1 and "2 tables: a, b" in refused.err and "--table" in refused.err
    assert stack("result", "get", ref, "--as", "ndjson", "--table", "b").out == '{"y":2}\n'
    assert stack("result", "get", ref, "--table", "a").out == '[\n{"x":1}\n]\n'
    assert stack("result", "delete", ref).status == 0


@pytest.mark.parametrize("form", [[], ["--as", "ndjson"]])
def test_a_reader_that_has_enough_ends_it_quietly(stack: Stack, ended: str, arrow: Path, form: list[str]) -> None:
    ref = stack("result", "put", ended, "much", str(arrow)).out.strip()
    command = [sys.executable, "-m", "noetl_serverless.cli", "result", "get", ref, *form, "--data", str(stack.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.read(5)
        running.stdout.close()
        said = running.stderr.read()
    # as a shell reports what SIGPIPE has ended
    assert (running.returncode, said) == (141, b"")
    assert stack("result", "delete", ref).status == 0


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


def _pieces() -> Iterator[bytes]:
    for number in range(SENT // MIB):
        yield bytes([number]) * MIB


class Memory:
    """The most that the process has at once, of its own, while it is looked at."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self.before = self.peak = self._now()

    def __enter__(self) -> Memory:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._ended.wait(0.002):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        lines = self._status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of another process's memory is read from /proc")
def test_bodies_go_through_the_gateway_without_being_held_in_memory(stack: Stack, ended: str) -> None:
    run = json.loads((stack.data / "run.json").read_text())
    gateway, functions = urlsplit(run["gateway_url"]), run["pids"]["functions"]
    with closing(http.client.HTTPConnection(str(gateway.hostname), gateway.port, timeout=60)) as connection:
        connection.request("POST", "/api/auth/login", '{"user": "ann"}', {"content-type": "application/json"})
        token = json.loads(connection.getresponse().read())["session_token"]
        headers = {"authorization": f"Bearer {token}"}
        sent = {**headers, "content-type": "application/octet-stream", "content-length": str(SENT)}
        # the gateway and the control plane are one process here
        with Memory(functions) as memory:
            connection.request("PUT", f"/noetl/result/{ended}?name=large", _pieces(), sent)
            answer = connection.getresponse()
            done = json.loads(answer.read())
            assert (answer.status, done["bytes"]) == (200, SENT), done
            path = f"/noetl/result/resolve?ref={quote(done['ref'], safe='')}"
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            digest, size = hashlib.sha256(), 0
            while piece := answer.read(MIB):
                digest.update(piece)
                size += len(piece)
        assert (answer.status, size, digest.hexdigest()) == (200, SENT, done["sha256"])
        assert memory.peak - memory.before < SENT // 2, "a body was collected on its way"
        connection.request("GET", path, headers={**headers, "range": f"bytes={5 * MIB}-{5 * MIB + 9}"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (206, bytes([5]) * 10)
    assert stack("result", "delete", done["ref"]).status == 0
