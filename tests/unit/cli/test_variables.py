"""What `noetls vars` says of a variable that it deletes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import variables
from noetl_serverless.cli.main import app


class ControlPlane:
    """An execution with the variable `a` alone."""

    def delete(self, path: str) -> dict[str, Any]:
        *_, execution_id, name = path.split("/")
        return {"execution_id": execution_id, "var_name": name, "deleted": name == "a"}


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("a", 0, "deleted 1 variable\n"), ("b", 1, "there is no variable 'b'; nothing was deleted\n")],
)
def test_one_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch, name: str, status: int, said: str) -> None:
    monkeypatch.setattr(variables, "running_stack", lambda data: nullcontext(ControlPlane()))
    done = CliRunner().invoke(app, ["vars", "7", name, "--delete"])
    assert (done.exit_code, done.output) == (status, said)
    assert CliRunner().invoke(app, ["vars", "7", name, "--delete", "--json"]).exit_code == status
