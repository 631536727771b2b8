"""`noetls fmt`: what it writes, what it leaves alone, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app

UNFORMATTED = "kind: Playbook  # what\napiVersion:   noetl.io/v2\nworkflow:\n- tool: {kind:  noop}\n  step: a\n"
FORMATTED = "apiVersion: noetl.io/v2\nkind: Playbook  # what\nworkflow:\n  - step: a\n    tool: {kind: noop}\n"
BROKEN = "workflow: [1\nb: 2\n"


def fmt(*words: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["fmt", *map(str, words)], input=text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(UNFORMATTED)
    path.chmod(0o640)
    return path


def test_a_file_is_rewritten_in_place_with_its_mode_and_nothing_is_left_beside_it(file: Path) -> None:
    done = fmt(file)
    assert (done.exit_code, file.read_text()) == (0, FORMATTED)
    assert "1 file formatted, 0 unchanged" in done.output
    assert (file.stat().st_mode & 0o777, list(file.parent.iterdir())) == (0o640, [file])
    assert "0 files formatted, 1 unchanged" in fmt(file.parent).output


def test_a_file_that_is_formatted_is_not_written(file: Path) -> None:
    file.write_text(FORMATTED)
    before = file.stat()
    assert fmt(file).exit_code == 0
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.parent / "link.yaml"
    link.symlink_to(file)
    assert fmt(link).exit_code == 0
    assert (link.is_symlink(), file.read_text()) == (True, FORMATTED)


def test_check_writes_nothing_and_fails_if_there_is_something_to_do(file: Path) -> None:
    done = fmt("--check", file)
    assert (done.exit_code, file.read_text()) == (1, UNFORMATTED)
    assert "a.yaml is not formatted" in done.output and "1 file to format" in done.output
    file.write_text(FORMATTED)
    assert fmt("--check", file).exit_code == 0


def test_diff_prints_what_would_change_and_writes_nothing(file: Path) -> None:
    done = fmt("--diff", file)
    assert (done.exit_code, file.read_text()) == (0, UNFORMATTED)
    lines = done.output.splitlines()
    assert lines[0].startswith("--- ") and "-- tool: {kind:  noop}" in lines and "+  - step: a" in lines
    assert fmt("--diff", "--check", file).exit_code == 1


def test_standard_input_goes_to_standard_output() -> None:
    assert fmt("-", text=UNFORMATTED).output == FORMATTED
    checked = fmt("--check", "-", text=UNFORMATTED)
    assert (checked.exit_code, checked.output) == (1, "")


def test_a_file_that_cannot_be_read_as_yaml_is_left_alone_and_hides_no_other(file: Path) -> None:
    broken = file.parent / "0.yaml"
    broken.write_text(BROKEN)
    done = fmt(broken, file)
    assert (done.exit_code, broken.read_text(), file.read_text()) == (1, BROKEN, FORMATTED)
    assert "0.yaml:2:2: error: " in done.stderr.replace("\n", "")
    assert "1 file formatted, 0 unchanged, 1 left as it is" in done.output


def test_line_ends_of_windows_become_plain(file: Path) -> None:
    file.write_bytes(FORMATTED.replace("\n", "\r\n").encode())
    assert fmt("--check", file).exit_code == 1
    fmt(file)
    assert file.read_bytes() == FORMATTED.encode()


def test_a_file_that_is_not_there_or_not_text_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    for name in ("none.yaml", "b.yaml"):
        done = fmt(tmp_path / name)
        assert (done.exit_code, name in done.stderr.replace("\n", "")) == (2, True)
