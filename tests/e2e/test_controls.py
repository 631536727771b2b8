"""noetls pause, resume, signal and approve, on a running stack."""

from __future__ import annotations

import re
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
  - {step: later, tool: {kind: wait, for: 5s}, next: {arcs: [{step: done}]}}
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
    assert stack.ask("signal", waiting, "go", "--value", '{"n": 1}', "--key", "k")["status"] == "duplicate"
    refused = stack("signal", waiting, "go", "--value", '{"n": 2}', "--key", "k")
    assert (refused.status, "use a new key" in refused.err) == (2, True), refused.err
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


def test_who_paused_it_when_and_why_is_shown_and_the_paused_are_found(stack: Stack, waiting: str) -> None:
    assert waiting not in stack("executions", "--status", "paused").out
    stack("pause", waiting, "--reason", "a look")
    assert waiting in stack("executions", "--status", "paused").out
    for text in (stack("show", waiting).out, stack("explain", waiting).out):
        assert re.search(r"paused since 20\d\d-\S+ by operator\b.* because: a look", text), text
    assert "by operator" in stack("events", waiting).out
    for command in ("cost", "digest", "explain"):
        assert stack(command, waiting).status == 0, command
    stack("resume", waiting)
    assert "paused since" not in stack("show", waiting).out + stack("explain", waiting).out


ASKING = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: asking, path: controls/asking}
workflow:
  - {step: book, tool: {kind: noop}, compensate: {tool: {kind: python, code: "raise ValueError('no way back')"}},
     next: {arcs: [{step: ask}]}}
  - {step: ask, tool: {kind: wait, approval: manager, within: 2s}}
"""


def test_whoever_runs_a_playbook_reads_what_ends_its_wait_and_what_was_not_undone(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "asking.yaml").write_text(ASKING)
    done = stack("run", str(tmp_path / "asking.yaml"))
    [id] = re.findall(r"^execution (\d+)$", done.err, re.MULTILINE)
    assert f"ask waits for approval 'manager': noetls approve {id} manager" in done.err
    assert done.status == 1 and re.search(r"✗ ask .* did not come in time", done.out), done.out
    for text in (done.out, stack("show", id).out, stack("explain", id).out):
        assert "not undone: book: " in text and "no way back" in text, text
    assert re.search(r"ask +failed", stack("show", id).out)


APPROVED = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: approved, path: controls/approved}
workflow:
  - {step: ask, tool: {kind: wait, approval: manager}, next: {arcs: [{step: pay}]}}
  - {step: pay, tool: {kind: noop, result: "{{ ask.data }}"}}
"""


def test_an_approval_lets_it_go_on_with_who_gave_it_and_the_comment(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "approved.yaml").write_text(APPROVED)
    id = stack.start(tmp_path / "approved.yaml", {})
    eventually(lambda: "parked" in stack("show", id).out)
    value = stack("signal", id, "manager", "--value", "yes")
    assert value.status == 2 and "'manager' is an approval" in value.err, value.err

    given = ("approve", id, "manager", "--comment", "as agreed", "--key", "k")
    done = stack(*given)
    assert (done.status, done.out) == (0, f"execution {id}: 'manager' approved\n"), done.err
    stack.events(id, follow=True)
    ended = stack.ask("show", id)
    by = {"kind": "operator", "name": "noetls"}
    data = {"approved": True, "comment": "as agreed", "by": by}
    assert (ended["status"], ended["result"]) == ("COMPLETED", {"data": data})
    late = stack("approve", id, "manager", "--reject")
    assert late.status == 2 and "has ended" in late.err, late.err


def test_a_rejection_fails_the_wait_with_its_comment(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "approved.yaml").write_text(APPROVED)
    id = stack.start(tmp_path / "approved.yaml", {})
    eventually(lambda: "parked" in stack("show", id).out)
    assert stack("approve", id, "manager", "--reject", "--comment", "too dear").status == 0
    stack.events(id, follow=True)
    ended = stack.ask("show", id)
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "wait.rejected"), ended
    assert "too dear" in ended["error"]["message"]


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
    kept = "kept; it waits for 'manager', and no step of the playbook waits for 'manger'; did you mean 'manager'?"
    misspelt = stack("approve", id, "manger")
    assert (misspelt.status, kept in misspelt.out) == (1, True), misspelt.out + misspelt.err
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
