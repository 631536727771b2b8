"""What the command line says of results before it writes anything."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.client import Client, StreamedAnswer
from noetl_serverless.cli.commands import results
from noetl_serverless.cli.visible_bytes import VisibleBytes
from noetl_serverless.tables.media_types import MEDIA_TYPES

CONTENT = '[{"a":"\x1b]0;title\x07\x9b"}]'.encode()


class Stored(Client):
    """Gives what is stored, or, to who accepts another form, `answer`."""

    def __init__(
        self, content: bytes, content_type: str, accumulated: str = "", answer: tuple[int, bytes] = (406, b"")
    ) -> None:
        super().__init__("http://127.0.0.1:1", "token")
        self.content, self.content_type, self.answer = content, content_type, answer
        self.headers = {"noetl-accumulated": accumulated} if accumulated else {}
        self.asked: list[tuple[str, str]] = []

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        assert urlsplit(path).path == "/api/result/7/make"
        return {"ref": None}

    @contextlib.contextmanager
    def streaming(self, method: str, path: str, **options: Any) -> Iterator[StreamedAnswer]:
        accept = options["headers"].get("Accept", "*/*")
        if accept != "*/*":
            self.asked.append((accept, urlsplit(path).query))
            status, content = self.answer
            yield StreamedAnswer(status, {"content-type": accept, "etag": '"x-csv"'}, io.BytesIO(content))
            return
        # as of the control plane, which looks up what was accumulated for who may want another form
        said = self.headers if method == "HEAD" and "Accept" in options["headers"] else {}
        headers = {**said, "content-type": self.content_type, "content-length": str(len(self.content))}
        yield StreamedAnswer(200, headers, io.BytesIO(self.content))


def run(monkeypatch: pytest.MonkeyPatch, *words: str, content_type: str = "application/json") -> Any:
    stored = Stored(CONTENT, content_type)
    monkeypatch.setattr(results, "running_stack", lambda data: contextlib.nullcontext(stored))
    return CliRunner().invoke(results.app, ["get", "7", *words])


def test_a_form_that_contradicts_the_name_of_the_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = run(monkeypatch, "make", "-o", str(tmp_path / "y.parquet"), "--as", "csv")
    assert done.exit_code == 2 and "a file of parquet, and --as says csv" in done.output, done.output
    assert run(monkeypatch, "make", "-o", str(tmp_path / "y.json"), "--as", "json").exit_code == 0
    assert (tmp_path / "y.json").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["y.json"]


def test_what_has_no_such_form_is_not_written_to_a_file_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = "application/octet-stream"
    done = run(monkeypatch, "make", "-o", str(tmp_path / "x.csv"), content_type=binary)
    assert done.exit_code != 0 and "cannot be converted to csv" in done.output, done.output
    assert not list(tmp_path.iterdir()), "a file was written in spite of that"
    assert run(monkeypatch, "make", "-o", str(tmp_path / "x.bin"), content_type=binary).exit_code == 0
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


PAGES = b'{"rows":[{"n":3}],"\xc3\xa4ll":[{"n":1},{"n":2},{"n":3}],"b":[{"n":4}],"s":"x"}'


UNABLE = (406, b'{"code":"request.not_acceptable","detail":"no pyarrow"}')


def converted(
    monkeypatch: pytest.MonkeyPatch, accumulated: str, *words: str, answer: tuple[int, bytes] = UNABLE
) -> tuple[Any, list[tuple[str, str]]]:
    """What the command did, and what it asked the control plane to convert."""
    stored = Stored(PAGES, "application/json", accumulated, answer)
    monkeypatch.setattr(results, "running_stack", lambda data: contextlib.nullcontext(stored))
    return CliRunner().invoke(results.app, ["get", "7", "make", *words]), stored.asked


def test_what_was_accumulated_is_converted_where_the_types_of_its_columns_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "x.parquet"
    done, asked = converted(monkeypatch, "all", "-o", str(file), answer=(200, b"PAR1"))
    assert (done.exit_code, asked) == (0, [(MEDIA_TYPES["parquet"], "resolve=true")]), done.output
    assert file.read_bytes() == b"PAR1", "it was made of JSON, which has no types"
    done, asked = converted(monkeypatch, "all", "--as", "csv", "--table", "rows", answer=(200, b"n"))
    assert (done.output, asked) == ("n", [(MEDIA_TYPES["csv"], "resolve=true&table=rows")])
    assert converted(monkeypatch, "", "--as", "csv")[1] == [], "what is stored with its types is not read as it is"


def test_of_what_the_control_plane_refuses_it_is_said_how_a_table_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = b'{"code":"request.invalid","detail":"2 fields: a, b: choose one with `table`","tables":["a","b"]}'
    done, _ = converted(monkeypatch, "a,b", "--as", "csv", answer=(400, problem))
    assert done.exit_code != 0 and "a, b" in done.output and "--table NAME" in done.output, done.output
    done, _ = converted(monkeypatch, "a", "--as", "csv", answer=(404, b'{"code":"x","detail":"it is gone"}'))
    assert done.exit_code != 0 and "it is gone" in done.output, done.output


def test_what_the_control_plane_cannot_convert_is_converted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def csv(accumulated: str, *words: str) -> str:
        return str(converted(monkeypatch, accumulated, "--as", "csv", *words)[0].output)

    assert csv("") == '"n"\n3\n', "of what was not accumulated, rows are usual"
    assert csv("%C3%A4ll") == '"n"\n1\n2\n3\n', "the last page is given for all of them"
    assert csv("%C3%A4ll,gone") == '"n"\n1\n2\n3\n', "a task that has not run makes a difference"
    assert csv("%C3%A4ll", "--table", "rows") == '"n"\n3\n'
    for accumulated, said in (("%C3%A4ll,b", "2 fields were accumulated: äll, b"), ("s", "is no table")):
        done, _ = converted(monkeypatch, accumulated, "--as", "csv")
        assert done.exit_code != 0 and said in done.output and "--table NAME" in done.output, done.output


def test_of_a_step_with_the_name_of_the_list_it_is_said_how_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, "list")
    assert done.exit_code == 2 and "noetls result list 7 --step list" in " ".join(done.output.split()), done.output


def test_a_terminal_is_not_steered_and_a_pipe_gets_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    outer, inner = pty.openpty()
    try:
        with os.fdopen(inner, "w") as terminal, results._target(None) as piped, monkeypatch.context() as patch:
            assert not isinstance(piped, VisibleBytes), "what goes to no terminal is changed"
            patch.setattr(sys, "stdout", terminal)
            with results._target(None) as target:
                target.write(CONTENT)
            shown = os.read(outer, 1000).decode()
    finally:
        os.close(outer)
    assert shown == r'[{"a":"\u001b]0;title\u0007\u009b"}]', shown
