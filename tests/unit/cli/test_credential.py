from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import credential
from noetl_serverless.cli.main import app
from noetl_serverless.tools.credential_types import fields_by_type

SET = ["credential", "set"]


def test_the_help_describes_fields_and_names_every_type_that_a_tool_reads() -> None:
    shown = CliRunner().invoke(app, [*SET, "--help"], env={"COLUMNS": "400"}).output
    assert "Set a field of the credential" in shown and "workload" not in shown
    # an alias of postgres is not listed
    assert [type_ for type_ in fields_by_type() if type_ not in shown and type_ != "postgresql"] == []


def test_what_was_stored_is_named_without_its_values_and_with_the_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    class ControlPlane:
        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            return {"name": body["name"], "type": body["type"], "warnings": ["no tool reads it"]}

    monkeypatch.setattr(credential, "running_stack", lambda data: nullcontext(ControlPlane()))
    done = CliRunner().invoke(app, [*SET, "db", "--type", "mine", "--set", "user=ann", "--set", "password=s3cret"])
    assert done.output.splitlines() == [
        "stored db: type mine, fields password, user",
        "warning: no tool reads it",
    ]


def test_a_value_that_is_no_json_is_reported_by_the_name_of_its_option() -> None:
    done = CliRunner().invoke(app, [*SET, "db", "--type", "postgres", "--value", "{"])
    assert done.exit_code == 2
    assert "--value: invalid JSON" in done.stderr and "--payload" not in done.stderr
