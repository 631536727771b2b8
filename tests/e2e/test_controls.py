"""noetls pause, resume, signal and approve, on a running stack."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.faults import eventually
from tests.e2e.stack import Stack

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: controls, path: controls/one}
workflow:
  - {step: hold, tool: {kind: wait, signal: go}, next: {arcs: [{step: later}]}}
  - {step: later, tool: {kind: wait, for: 4s}, next: {arcs: [{step: done}]}}
  - {step: done, tool: {kind: python, input: {given: "{{ hold }}"}, code: "result = given"}}
"""


@pytest.fixture
def waiting(stack: Stack, tmp_path: Path) -> str:
    """The id of an execution that waits for the signal `go`."""
    (tmp_path / "controls.yaml").write_text(PLAYBOOK)
    id = stack.start(tmp_path / "controls.yaml", {})
    eventually(lambda: "hold" in stack("show", id).out and "parked" in stack("show", id).out)
    return id


def test_a_signal_ends_the_wait(stack: Stack, waiting: str) -> None:
    done = stack("signal", waiting, "go", "--value", '{"n": 1}', "--key", "k")
    assert done.status == 0, done.err
    assert stack.ask("signal", waiting, "go", "--value", '{"n": 2}', "--key", "k")["status"] == "duplicate"
    stack.events(waiting, follow=True)
    assert stack.ask("show", waiting)["result"] == {"data": {"n": 1}}


def test_a_paused_execution_stands_still_until_it_goes_on(stack: Stack, waiting: str) -> None:
    assert "paused" in stack("pause", waiting, "--reason", "a look").out
    assert "RUNNING (paused)" in stack("show", waiting).out
    stack.ask("signal", waiting, "go", "--value", "1")
    assert stack.ask("show", waiting)["status"] == "RUNNING"
    assert "it goes on" in stack("resume", waiting).out
    stack.events(waiting, follow=True)
    ended = stack.ask("show", waiting)
    assert (ended["status"], ended["result"]) == ("COMPLETED", {"data": 1})


def test_what_has_ended_is_not_paused(stack: Stack, waiting: str) -> None:
    stack.ask("signal", waiting, "go")
    stack.events(waiting, follow=True)
    done = stack("pause", waiting)
    assert done.status != 0 and "has ended" in done.err, done.err


def test_a_signal_with_a_wrong_name_is_kept_and_it_says_so(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "asks.yaml").write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: asks, path: controls/asks}\n"
        "workflow: [{step: ask, tool: {kind: wait, approval: manager}}]\n"
    )
    id = stack.start(tmp_path / "asks.yaml", {})
    eventually(lambda: "parked" in stack("show", id).out)
    assert "kept: nothing waits for 'manger' yet; it waits for 'manager'" in stack("approve", id, "manger").out
    assert f"execution {id}: 'manager' rejected" in stack("approve", id, "manager", "--reject").out


def test_an_execution_is_started_anew_with_its_input(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: again, path: controls/again}\n"
        "workload: {n: 1, m: 1}\n"
        "workflow: [{step: a, tool: {kind: noop, result: '{{ [workload.n, workload.m] }}'}}]\n"
    )
    first = stack.ask("run", str(tmp_path / "again.yaml"), "--set", "n=2")
    again = stack.ask("run", "--again", first["execution_id"], "--set", "m=3")
    assert (again["status"], again["result"]) == ("COMPLETED", [2, 3])
    assert again["execution_id"] != first["execution_id"]
    assert stack("run", "--again", first["execution_id"], "--version", "1").status == 2
