"""A short run beside one without end, on a whole stack: it waits for a few steps of that, and not for its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.stack import PLAYBOOKS, Stack

ENDLESS = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: endless, path: test/endless}
executor: {spec: {max_turns: 100000}}
workflow:
  - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: noop}, next: {arcs: [{step: a}]}}
"""
# of the endless one, while a short one starts, runs, and ends
MAX_STEPS = 200


@pytest.fixture
def endless(stack: Stack, tmp_path: Path) -> str:
    path = tmp_path / "endless.yaml"
    path.write_text(ENDLESS)
    return stack.start(path, {})


def test_a_short_run_waits_for_a_few_steps_of_an_endless_one(stack: Stack, endless: str) -> None:
    runs = [stack.run(PLAYBOOKS / "hello.yaml")["execution_id"] for _ in range(4)]
    stack.ask("cancel", endless)
    steps = [event["timestamp"] for event in stack.events(endless) if event["event_type"] == "call.done"]
    assert len(steps) > 100, "it ran beside them"
    for id in runs:
        times = [event["timestamp"] for event in stack.events(id)]
        meanwhile = sum(times[0] < at < times[-1] for at in steps)
        assert meanwhile < MAX_STEPS, f"a run of one step took {meanwhile} steps of the endless one"
