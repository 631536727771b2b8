"""What `events` and `show` say beside the log and the table."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.cli.commands.executions import (
    MAX_LINES,
    _duration,
    _errors,
    _items,
    _line,
    _retried_periods,
    _with_effect,
)
from noetl_serverless.cli.progress import Progress
from noetl_serverless.inspection.quarantine_periods import QuarantinePeriods

ERROR = {"code": "x", "message": "it broke"}


def event(seq: int, kind: str, second: int, **more: Any) -> dict[str, Any]:
    row = {"execution_id": "7", "seq": seq, "event_type": kind, "timestamp": f"2026-01-01T00:00:{second:02d}Z"}
    return {**row, "step": "a", "generation": 1, "command_id": "a#1", "cause": None, "payload": {}, **more}


APART = event(2, "playbook.failed", 3, payload={"quarantined": {"type": "timer.fired"}, "error": ERROR})
RETRIED = event(3, "execution.retried", 40)


def test_what_was_kept_in_quarantine_says_until_when_and_what_follows_from_it_when_it_was_decided() -> None:
    log = [event(1, "command.issued", 1), APART, RETRIED, event(4, "timer.fired", 3)]
    log += [event(5, "command.issued", 3, cause=4), event(6, "call.done", 42)]
    stays = QuarantinePeriods()
    lines = [_line(_with_effect(entry, stays)).splitlines()[0] for entry in log]
    assert lines[3].endswith("2026-01-01T00:00:03Z  timer.fired             a  "
                            "(kept in quarantine until 2026-01-01T00:00:40.000Z)")  # fmt: skip
    assert lines[4].endswith("(caused by 4)  (decided at 2026-01-01T00:00:40.000Z)")
    assert not any("(kept" in line or "(decided" in line for line in (*lines[:3], lines[5]))


ADA = {"kind": "user", "name": "ada"}
SIGNAL = {"signal": "paid", "data": {"card": "4111"}, "by": ADA}
REJECTED = {"code": "wait.rejected", "message": "'manager' was not approved: no"}


@pytest.mark.parametrize(
    ("kind", "payload", "summary"),
    [
        ("signal.received", SIGNAL, "'paid' by user ada"),
        ("signal.received", {"signal": "paid"}, "'paid'"),
        ("wait.started", {"signal": "paid"}, "for signal 'paid'"),
        ("wait.started", {"signal": "manager", "approval": True}, "for approval 'manager'"),
        ("wait.started", {"wait": "a#1!3"}, "until a time"),
        ("wait.ended", {"signal": "paid", "status": "ok", "data": {"card": "4111"}}, "ok: signal 'paid'"),
        ("wait.ended", {"status": "ok"}, "ok: its time has come"),
        (
            "wait.ended",
            {"signal": "manager", "status": "error", "error": REJECTED},
            "error: wait.rejected: 'manager' was not approved: no",
        ),
        ("execution.paused", {"reason": "a look", "by": ADA}, "by user ada: a look"),
        ("execution.paused", {"reason": "a look"}, "a look"),
        ("execution.resumed", {"by": ADA}, "by user ada"),
        ("execution.resumed", {}, ""),
        # too large for the page
        ("wait.ended", {}, ""),
        ("wait.started", {}, ""),
    ],
)
def test_a_line_of_the_log_names_signals_and_says_how_waits_end_and_who_paused_it(
    kind: str, payload: dict[str, Any], summary: str
) -> None:
    line = _line(event(4, kind, 1, payload=payload))
    assert line == f"     4  2026-01-01T00:00:01Z  {kind:<22}  a  {summary}".rstrip()


def test_the_log_as_json_says_when_what_was_kept_took_effect() -> None:
    stays = QuarantinePeriods()
    log = [_with_effect(entry, stays) for entry in (APART, RETRIED, event(4, "timer.fired", 3))]
    assert [entry.get("took_effect_at") for entry in log] == [None, None, "2026-01-01T00:00:40.000Z"]


def test_a_period_in_quarantine_is_shown_of_an_execution_that_went_on() -> None:
    progress = Progress()
    progress.apply([APART])
    assert list(_retried_periods(progress)) == []
    progress.apply([RETRIED])
    [line] = _retried_periods(progress)
    assert line == "was in quarantine from 2026-01-01T00:00:03.000Z to 2026-01-01T00:00:40.000Z, then continued"


def test_a_step_that_failed_without_an_attempt_that_did_says_why() -> None:
    progress = Progress()
    error = {"code": "template.error", "message": "there is no 'gone'", "line": 7, "step": "a"}
    progress.apply([event(1, "command.issued", 1), event(2, "call.done", 2)])
    progress.apply([event(3, "playbook.failed", 2, generation=None, payload={"error": error})])
    assert list(_errors(progress, whole=False)) == ["a failed: template.error: there is no 'gone' (line 7)"]


def test_all_items_that_failed_are_shown_if_all_are_wanted() -> None:
    errors = {str(index): ERROR for index in range(30)}
    frame = event(2, "frame.committed", 2, payload={"start": 0, "end": 40, "ok": 0, "failed": 40, "errors": errors})
    printed = {}
    for whole in (False, True):
        progress = Progress(None if whole else 20)
        progress.apply([event(1, "loop.opened", 1, payload={"count": 40}), frame])
        printed[whole] = list(_items(progress, whole))
    assert (len(printed[False]), printed[False][-1]) == (
        MAX_LINES + 1,
        "a: and 30 more items failed; use --all to show them",
    )
    assert len(printed[True]) == 31
    assert printed[True][-1] == "a: 10 more of the items 0 to 39 failed; the log does not keep their errors"


def test_an_execution_that_has_left_quarantine_is_not_shown_as_quarantined() -> None:
    there, left = _line(APART, is_quarantined=True), _line(APART)
    assert "        in quarantine: " in there and "for details, run: noetls quarantine show 7" in there
    assert "        was in quarantine for a time: " in left and "what to do" not in left


def test_an_execution_that_ended_by_what_was_kept_took_until_it_went_on() -> None:
    entry = {"status": "COMPLETED", "start_time": "2026-01-01T00:00:01Z", "duration_human": "2.0s"}
    progress = Progress()
    progress.apply([event(1, "command.issued", 1), APART, RETRIED, event(4, "call.done", 3)])
    progress.apply([event(5, "playbook.completed", 3, cause=4)])
    assert _duration(entry, progress) == "39.0s"
    assert _duration(entry, Progress()) == "2.0s", "what was never in quarantine is told as the store has it"
    assert _duration({**entry, "status": "RUNNING"}, progress) == "2.0s"
