"""`noetls rebuild`: of which executions, and only on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import replay
from noetl_serverless.cli.main import app


class ControlPlane:
    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.append(dict(body))
        return {"executions": [{"execution_id": "7", "differences": [], "leases": 0}], "next": None}


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    found = ControlPlane()

    @contextmanager
    def stack(data: Any) -> Iterator[ControlPlane]:
        yield found

    monkeypatch.setattr(replay, "running_stack", stack)
    return found


@pytest.mark.parametrize("words", [[], ["--execution", "7", "--all"]])
def test_nothing_is_rebuilt_unless_one_execution_or_all_are_named(plane: ControlPlane, words: list[str]) -> None:
    done = CliRunner().invoke(app, ["rebuild", *words])
    assert (done.exit_code, plane.bodies) == (2, [])
    assert "--execution ID" in done.output and "--all" in done.output


@pytest.mark.parametrize(("words", "body"), [(["--execution", "7"], {"execution_id": "7"}), (["--all"], {"limit": 50})])
def test_what_is_named_is_rebuilt(plane: ControlPlane, words: list[str], body: dict[str, Any]) -> None:
    done = CliRunner().invoke(app, ["rebuild", *words])
    assert (done.exit_code, plane.bodies) == (0, [body])
    assert "1 execution rebuilt, none differed from its log; 0 leases lost" in done.output
