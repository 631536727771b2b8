"""Waits as the events tell of them: what a step waits for, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.cli.test_progress import event

from noetl_serverless.cli.progress import Progress, line
from noetl_serverless.cli.waits import Waits

PAID = {"wait": "load#1!3", "signal": "paid", "resumes": False}
MANAGER = {"wait": "load#1!3", "signal": "the manager", "approval": True, "resumes": False}
TIME = {"wait": "load#1!3", "resumes": False}


def parked(progress: Progress, wait: dict[str, Any], *, until: bool = False) -> Any:
    progress.apply([event("command.issued", 1, kind="step"), event("call.parked", 2), event("wait.started", 2, **wait)])
    if until:
        progress.apply([event("timer.set", 2, timer=wait["wait"], due=9)])
    [row] = progress.rows.values()
    return row


@pytest.mark.parametrize("until", [False, True])
@pytest.mark.parametrize(("wait", "status"), [(PAID, "parked"), (MANAGER, "parked"), (TIME, "delayed")])
def test_a_step_is_parked_for_a_signal_and_delayed_until_a_time(wait: Any, status: str, until: bool) -> None:
    assert parked(Progress(), wait, until=until).label == status


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"status": "ok"}, "✓ load  4.00 s"),
        ({"status": "error", "error": {"message": "not approved"}}, "✗ load  4.00 s  not approved"),
    ],
)
def test_the_end_of_a_wait_is_that_of_its_step(how: dict[str, Any], text: str) -> None:
    progress = Progress()
    row = parked(progress, MANAGER)
    assert progress.apply([event("wait.ended", 5, wait="load#1!3", **how)]) == [row]
    assert line(row) == text
    progress.apply([event("playbook.completed", 7)])
    assert row.label == ("done" if how["status"] == "ok" else "failed")


def test_a_wait_after_which_a_command_goes_on_ends_no_step() -> None:
    progress = Progress()
    row = parked(progress, {**PAID, "resumes": True})
    assert progress.apply([event("wait.ended", 5, wait="load#1!3", status="ok")]) == []
    progress.apply([event("command.issued", 5, command_id="load#1@2")])
    assert row.label == "running"
    progress.apply([event("call.done", 6, command_id="load#1@2")])
    assert line(row) == "✓ load  5.00 s"


def test_a_person_reads_once_what_ends_a_wait() -> None:
    progress = Progress()
    parked(progress, MANAGER)
    [wait] = progress.new_waits()
    assert wait.prompt("7") == "load waits for approval 'the manager': noetls approve 7 'the manager'"
    assert progress.new_waits() == []
    progress = Progress()
    parked(progress, PAID)
    assert [wait.prompt("7") for wait in progress.new_waits()] == ["load waits for signal 'paid': noetls signal 7 paid"]
    progress = Progress()
    parked(progress, TIME)
    assert progress.new_waits() == []


@pytest.mark.parametrize("kind", ["wait.ended", "step.timed_out", "compensation.started", "execution.cancelled"])
def test_of_a_wait_that_has_ended_nobody_is_asked(kind: str) -> None:
    progress = Progress()
    parked(progress, PAID)
    progress.apply([event(kind, 3, wait="load#1!3", error={}, status="ok")])
    assert progress.new_waits() == []


def test_of_a_loop_some_waits_are_named_and_all_are_counted() -> None:
    waits = Waits()
    for index in range(3):
        waits.read(event("wait.started", 1, wait=f"load#1.{index}!3", signal=f"s{index}"))
    assert waits.text(("load", 1)) == "signal 's0', signal 's1' and signal 's2'"
    same = Waits()
    for index in range(40):
        same.read(event("wait.started", 1, wait=f"load#1.{index}!3", signal="go", approval=index == 5))
    assert same.text(("load", 1)) == "signal 'go', approval 'go' and 38 more waits"
    for index in range(3, 5):
        waits.read(event("wait.started", 1, wait=f"load#1.{index}!3", signal=f"s{index}"))
    assert waits.text(("load", 1)) == "signal 's0', signal 's1', signal 's2' and 2 more waits"
    for index in range(3, 5):
        waits.read(event("wait.ended", 2, wait=f"load#1.{index}!3", status="ok"))
    waits.read(event("wait.ended", 2, wait="load#1.0!3", status="ok"))
    waits.read(event("wait.ended", 2, wait="load#1.2!3", status="ok"))
    assert waits.text(("load", 1)) == "signal 's1'"
    assert waits.text(("other", 1)) == ""


def test_what_keeps_a_step_waiting_is_a_line_of_its_own() -> None:
    progress = Progress()
    parked(progress, MANAGER)
    limit = {"unit": "command", "kind": "concurrency", "key": "k", "limit": 1, "used": 1}
    entry = {"step": "next", "generation": 1, "status": "queued", "limits": [limit]}
    due = "2027-01-01T00:00:00Z"
    parked_until = {"step": "load", "generation": 1, "status": "parked", "due_at": due}
    delayed = {"step": "poll", "generation": 1, "status": "delayed", "due_at": due}
    progress.set_statuses([parked_until, entry, delayed])
    assert progress.details() == [
        "load is parked: approval 'the manager', until 2027-01-01T00:00:00Z",
        "next is queued: concurrency of key k: 1 of 1 commands running",
        "poll is delayed: until 2027-01-01T00:00:00Z",
    ]
    progress.set_statuses([{**parked_until, "due_at": None}, {**delayed, "due_at": None}])
    assert progress.details()[0] == "load is parked: approval 'the manager'"
    assert [row.label for row in progress.rows.values()] == ["parked", "queued", "delayed"]


def test_what_is_reused_has_taken_no_time() -> None:
    progress = Progress()
    [row] = progress.apply([event("step.reused", 1, outcome={"status": "ok"}, of={})])
    assert line(row) == "✓ load  reused"


def test_a_pause_lasts_until_the_execution_goes_on_or_ends() -> None:
    progress = Progress()
    progress.apply([paused := event("execution.paused", 1, None, reason="a look")])
    assert progress.paused is paused
    progress.apply([event("execution.paused", 2, None, ignored="it is paused already")])
    assert progress.paused is paused
    progress.apply([event("execution.resumed", 3, None)])
    assert progress.paused is None
    progress.apply([event("execution.paused", 4, None), event("execution.cancelled", 5, None)])
    assert progress.paused is None


def test_what_has_been_done_is_being_undone_until_the_end() -> None:
    progress = Progress()
    progress.apply([event("compensation.started", 1)])
    assert progress.is_compensating
    progress.apply([event("playbook.failed", 2, error={"code": "x", "message": "m"})])
    assert not progress.is_compensating
