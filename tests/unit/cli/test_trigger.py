"""`noetls trigger`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import trigger
from noetl_serverless.cli.main import app


class ControlPlane:
    def get(self, path: str) -> dict[str, Any]:
        return {"path": path}


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_trigger_is_shown_as_json_with_the_option_of_all_commands_and_without(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(trigger, "running_stack", lambda data: nullcontext(ControlPlane()))
    done = CliRunner().invoke(app, ["trigger", "get", "shop/order/paid", *words])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"path": "/api/triggers/shop/order/paid"})
