"""`noetls lint`: mistakes, and what is allowed but hardly meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: a, path: t/a}\nworkflow:\n"
UNREACHED = HEAD + "  - {step: a, tool: {kind: noop}}\n  - {step: b, tool: {kind: noop}}\n"
WRONG = HEAD + "  - {step: a, tool: {kind: noop}, next: {arcs: [{step: nowhere}]}}\n"


@pytest.fixture
def lint(tmp_path: Path) -> Callable[..., Result]:
    def run(text: str, *words: str) -> Result:
        (tmp_path / "a.yaml").write_text(text)
        return CliRunner().invoke(app, ["lint", str(tmp_path / "a.yaml"), *words])

    return run


def test_a_warning_is_printed_with_its_place_and_is_no_mistake(lint: Callable[..., Result]) -> None:
    done = lint(UNREACHED)
    assert done.exit_code == 0
    warning, last = done.output.replace("\n", "").split("no errors")
    assert "a.yaml:6:" in warning and ": warning: no arc leads from 'a' to the step 'b'" in warning
    assert last == ""


def test_warnings_are_apart_from_mistakes_as_json(lint: Callable[..., Result]) -> None:
    document = json.loads(lint(UNREACHED, "--json").output)
    assert (document["ok"], document["errors"]) == (True, [])
    [warning] = document["warnings"]
    assert (warning["code"], warning["line"], Path(warning["file"]).name) == ("playbook.unreachable", 6, "a.yaml")
    done = lint(WRONG, "--json")
    assert (done.exit_code, json.loads(done.output)["ok"], json.loads(done.output)["warnings"]) == (1, False, [])


def test_a_delay_that_is_not_waited_is_warned_of_as_the_playbooks_page_says(lint: Callable[..., Result]) -> None:
    rules = "rules: [{when: '{{ false }}', then: {do: retry, backoff: none, delay: 5}}]"
    done = lint(HEAD + "  - step: a\n    tool: {kind: noop, spec: {policy: {" + rules + "}}}\n")
    assert (done.exit_code, "no effect because backoff is none" in " ".join(done.output.split())) == (0, True), (
        done.output
    )


def test_a_file_that_cannot_be_read_hides_no_mistake_of_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "b.yaml").write_text(WRONG)
    done = CliRunner().invoke(app, ["lint", str(tmp_path), "--json"])
    errors = [(Path(error["file"]).name, error["message"]) for error in json.loads(done.output)["errors"]]
    assert (done.exit_code, errors) == (1, [("a.yaml", "not UTF-8 text"), ("b.yaml", "there is no step 'nowhere'")])
    assert "a.yaml: not UTF-8 text" in CliRunner().invoke(app, ["lint", str(tmp_path)]).output.replace("\n", "")


def test_scripts_beside_a_playbook_are_checked_and_those_at_a_url_are_not(
    lint: Callable[..., Result], tmp_path: Path
) -> None:
    text = (
        HEAD
        + """\
  - step: a
    tool: [{kind: python, script: {uri: a.py}}, {kind: duckdb, script: {uri: "https://127.0.0.1:1/a.sql"}}]
"""
    )
    (tmp_path / "a.py").write_text("return context['ctx']")
    assert lint(text).output == "no errors\n"
    (tmp_path / "a.py").write_text("x = 1\ny =")
    [error] = json.loads(lint(text, "--json").output)["errors"]
    assert (error["message"], error["line"]) == ("Python: invalid syntax (line 2 of the code)", 6)


def test_nothing_is_reported_of_a_playbook_without_either(lint: Callable[..., Result]) -> None:
    assert lint(HEAD + "  - {step: a, tool: {kind: noop}}\n").output == "no errors\n"
