"""What `rerun` says of a run that is not the recorded one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from noetl_serverless.capsule.recording import Recording
from noetl_serverless.cli.commands import capsule
from noetl_serverless.cli.commands.capsule import _divergence_text
from noetl_serverless.cli.main import app
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event

PLAYBOOK = (
    "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"
    "workflow: [{step: a, tool: {kind: noop}}]\n"
)


def test_an_entry_that_is_there_on_both_sides_is_not_shown_as_if_it_were_two() -> None:
    text = _divergence_text("a#1", "a#1")
    assert (text.count("a#1"), "noetls diff" in text) == (1, True), text
    assert _divergence_text("a#1", "b#1") == "the first difference is a#1, now b#1"
    assert _divergence_text("a#1", None) == "the first difference is a#1, now the end"


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([Event(e.STARTED, 0, payload={e.RESTART: {"execution_id": "6"}})], "execution 7 goes on with execution 6"),
        (
            [Event(e.STARTED, 0), Event(e.VARIABLES_SET, 0, seq=2, payload={"variables": {"x": 1}})],
            "somebody set variables of execution 7 while it ran, at event 2: 'x'",
        ),
    ],
)
def test_what_cannot_run_again_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, events: list[Event], says: str
) -> None:
    recording = Recording(
        execution_id="7", path="t/t", version=1, plan_hash="x", playbook=PLAYBOOK, workload={}, events=events
    )
    monkeypatch.setattr(capsule, "_with_results", lambda recorded, data: recording)
    done = CliRunner().invoke(app, ["rerun", "7"])
    assert (done.exit_code, done.stderr.startswith(f"error: {says}")) == (2, True), done.output
