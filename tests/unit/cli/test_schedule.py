from __future__ import annotations

from contextlib import nullcontext
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import schedule
from noetl_serverless.cli.main import app
from noetl_serverless.store.schedule_spec import MissedPolicy

CREATE = ["schedule", "create", "daily", "t/a", "--every", "60"]


def test_the_policies_for_missed_runs_are_those_of_the_store() -> None:
    assert get_args(schedule.Missed) == get_args(MissedPolicy)


def test_an_unknown_policy_is_refused_with_the_option_and_its_values() -> None:
    done = CliRunner().invoke(app, [*CREATE, "--missed", "sometimes"])
    assert (done.exit_code, "missed_policy" in done.output) == (2, False)
    assert all(word in done.output for word in ("--missed", "skip", "fire_once", "catch_up"))


@pytest.mark.parametrize(("words", "policy"), [([], "fire_once"), (["--missed", "CATCH_UP"], "catch_up")])
def test_the_policy_is_sent(monkeypatch: pytest.MonkeyPatch, words: list[str], policy: str) -> None:
    bodies: list[dict[str, Any]] = []

    class ControlPlane:
        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            bodies.append(body)
            return {"name": "daily", "enabled": False}

    monkeypatch.setattr(schedule, "running_stack", lambda data: nullcontext(ControlPlane()))
    assert CliRunner().invoke(app, [*CREATE, *words]).exit_code == 0
    assert [body["missed_policy"] for body in bodies] == [policy]
