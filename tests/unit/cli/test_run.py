"""What `noetls run` says before it starts anything."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import run
from noetl_serverless.cli.main import app

CONTENT = "workload: {carrier: none}\nworkflow:\n  - {step: a, tool: {kind: noop, result: '{{ workload.carrier }}'}}\n"


class ControlPlane:
    """Has run version 3 of a playbook as execution 7."""

    def execution(self, execution_id: str) -> dict[str, Any]:
        return {"7": {"path": "demo/one", "version": 3}}[execution_id]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (path, body) == ("/api/catalog/resource", {"path": "demo/one", "version": 3})
        return {"content": CONTENT, "payload": {"carrier": "none"}}

    def execute_again(self, execution_id: str, workload: dict[str, Any]) -> str:
        return f"{execution_id}0"


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ("carier=ok", "warning: the playbook does not use 'carier'; did you mean 'carrier'?\n"),
        ("carrier=ok", ""),
    ],
)
def test_again_warns_about_a_value_that_the_playbook_does_not_use(
    monkeypatch: pytest.MonkeyPatch, value: str, warning: str
) -> None:
    monkeypatch.setattr(run, "running_stack", lambda data: nullcontext(ControlPlane()))
    done = CliRunner().invoke(app, ["run", "7", "--again", "--no-wait", "--set", value])
    assert (done.exit_code, done.output) == (0, f"{warning}started execution 70\n")
