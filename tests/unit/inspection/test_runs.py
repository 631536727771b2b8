"""How a command went: queued and run are measured apart, and what came to nothing is counted."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.inspection.runs import CommandRun, run_of

START = 1_767_225_600_000
META = {
    "worker": "w-1",
    "started_at": "2026-01-01T00:00:00.000Z",
    "ended_at": "2026-01-01T00:00:05.000Z",
    "duration_ms": 1500.25,
    "waited_ms": 3499.75,
}


def test_queued_is_from_the_issue_to_the_start_and_run_is_what_ran() -> None:
    run = run_of(META, START + 6000, START - 2000)
    assert (run.queued_ms, run.run_ms, run.waited_ms) == (2000, 1500.25, 3499.75)
    assert (run.started_at, run.ended_at, run.worker) == (START, START + 5000, "w-1")
    assert run.failed == 0


def test_a_start_before_the_issue_was_not_queued() -> None:
    """As of a command that was run ahead, or by a clock that is behind."""
    assert run_of(META, START, START + 500).queued_ms == 0


def test_what_is_not_known_is_none() -> None:
    assert run_of(META, START, None).queued_ms is None
    assert run_of({}, START, START) == CommandRun(
        worker=None, started_at=None, ended_at=START, queued_ms=None, run_ms=None, waited_ms=0.0
    )


@pytest.mark.parametrize("meta", [None, [], {"started_at": 7, "duration_ms": "x", "attempts": {}, "lost": [1]}])
def test_what_an_old_or_odd_worker_says_does_no_harm(meta: Any) -> None:
    assert run_of(meta, START, START).failed == 0


def test_attempts_and_lost_leases_came_to_nothing() -> None:
    meta = {"attempts": [{"attempt": 1}, {"attempt": 2}], "attempts_dropped": 7, "lost": [{"worker": "w-0"}]}
    run = run_of(meta, START, None)
    assert [entry["attempt"] for entry in run.attempts] == [1, 2]
    assert run.failed == 10
