"""`noetls run PLAYBOOK --help`, and values as the playbook's schema takes them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli import input_help
from noetl_serverless.cli.commands import run
from noetl_serverless.cli.failure import Refused
from noetl_serverless.cli.main import app

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: Report, path: t/report, description: Sums up.}
workload: {region: eu}
schemas:
  input:
    properties:
      region: {enum: [eu, us], description: Where}
      day: {type: string}
      token: {type: string, writeOnly: true}
    required: [day]
  result: {type: object, properties: {total: {type: number}}, required: [total]}
workflow:
  - step: one
    tool: {kind: http, url: "http://x/{{ workload.region }}/{{ workload.day }}"}
"""
DRY = ["--dry-run", "--answer", 'one={"total": 1}']


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "report.yaml"
    path.write_text(PLAYBOOK)
    return str(path)


@pytest.mark.parametrize("first", [True, False])
def test_the_help_of_a_playbook_has_its_inputs_and_its_result(file: str, *, first: bool) -> None:
    words = ["--help", file] if first else [file, "--help"]
    done = CliRunner().invoke(app, ["run", *words])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "t/report: Report",
        "  Sums up.",
        "",
        "Inputs, given with --set NAME=VALUE or --payload:",
        '  region  "eu" or "us", default "eu"  Where',
        "  day     string, required",
        "  token   string, secret",
        "",
        "Result: object",
        "  total  number, required",
        "",
        "For the options of the command: noetls run --help",
    ]


def test_of_a_name_that_the_catalog_does_not_have_it_is_said_if_it_may_be_that_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ControlPlane:
        def post(self, path: str, body: dict[str, Any]) -> NoReturn:
            raise Refused(404, {"detail": f"the catalog has no {body['path']}"})

        def execute(self, path: str, version: int | None, values: dict[str, Any]) -> NoReturn:
            self.post("", {"path": path})

    for module in (input_help, run):
        monkeypatch.setattr(module, "running_stack", lambda data: nullcontext(ControlPlane()))
    for words in (["--help"], ["--dry-run"], ["--no-wait"], ["--no-wait", "--set", "n=1"]):
        said = {name: CliRunner().invoke(app, ["run", name, *words]).stderr for name in ("leave.yam", "my/leave")}
        assert said == {
            "leave.yam": "error: the catalog has no leave.yam; nor is there a file of this name\n",
            "my/leave": "error: the catalog has no my/leave\n",
        }


def test_the_help_of_a_file_that_is_not_there_says_so() -> None:
    done = CliRunner().invoke(app, ["run", "nowhere.yaml", "--help"])
    assert (done.exit_code, "nowhere.yaml" in done.output) == (2, True)


def test_set_leaves_text_where_the_schema_takes_only_text(file: str) -> None:
    done = CliRunner().invoke(app, ["run", file, *DRY, "--set", "day=20260102"])
    assert (done.exit_code, "completed" in done.output) == (0, True), done.output


def test_an_input_that_does_not_fit_is_wrong_use_with_each_place(file: str) -> None:
    done = CliRunner().invoke(app, ["run", file, *DRY, "--set", "region=asia", "--payload", '{"token": 12345}'])
    assert done.exit_code == 2
    for words in (
        '/region: this must be one of "eu", "us"',
        "/day: 'day' is required",
        "/token: this must be a string",
    ):
        assert words in done.output
    assert "12345" not in done.output


def test_a_dry_run_compares_the_result_that_it_knows(file: str) -> None:
    done = CliRunner().invoke(app, ["run", file, "--dry-run", "--answer", "one={}", "--set", "day=x"])
    assert (done.exit_code, "result.invalid" in done.output) == (1, True)
    done = CliRunner().invoke(app, ["run", file, "--dry-run", "--set", "day=x"])
    assert (done.exit_code, "completed" in done.output) == (0, True), "an unknown result may fit"
