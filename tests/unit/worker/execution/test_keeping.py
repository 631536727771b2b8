"""Small things that a worker keeps: summaries, names, when to try again, the end of a sub-playbook."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import CommandKey, Outcome
from noetl_serverless.worker.drain.keys import key_of, names_of
from noetl_serverless.worker.drain.retry import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Retry, is_report_at_fault
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.execution.collection import as_items
from noetl_serverless.worker.execution.envelope import child_output, envelope


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("done", "done"),
        ("error", "failed"),
        ("deferred", "suspended"),
        ("parked", "suspended"),
        ("released", "released"),
    ],
)
def test_each_end_is_counted_as_what_it_is(status: Any, name: str) -> None:
    summary = Summary()
    before = asdict(summary)
    for _ in range(2):
        summary.count(Outcome(execution_id="7", command_id="a#1", fence=1, status=status))
    assert asdict(summary) == {**before, name: 2}


def test_a_summary_begins_with_nothing() -> None:
    assert set(asdict(Summary()).values()) == {0}
    assert Summary().more is False


def test_a_command_is_named_by_its_execution_and_itself() -> None:
    key = CommandKey(execution_id="7", command_id="a#1")
    assert key_of(key) == ("7", "a#1")
    assert names_of(key) == {"execution_id": "7", "command_id": "a#1"}


def test_pauses_grow_up_to_the_longest() -> None:
    retry = Retry(100.0)
    assert (retry.doubtful, retry.separate_report) == (False, False)
    dues = []
    for _ in range(6):
        retry.postpone(100.0)
        dues.append(retry.due - 100.0)
    assert dues == [FIRST_PAUSE_SECONDS, 0.5, 1.0, MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS]


@pytest.mark.parametrize(
    ("answered", "last", "fault"),
    [
        (500, 0.0, True),
        (502, 0.0, True),
        (504, 0.0, True),
        (503, 0.0, False),
        (429, 0.0, False),
        (None, 0.0, False),
        (503, 5.0, False),
        (503, 5.1, True),
        (None, 5.1, True),
    ],
)
def test_the_answer_decides_who_is_at_fault(answered: int | None, last: float, fault: bool) -> None:
    """`last`: when the control plane answered something last; the report was first sent at 5."""
    assert is_report_at_fault(Unavailable("no", answered=answered), 5.0, last) is fault


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (None, []),
        ({"a": 1}, [{"a": 1}]),
        ([1], [1]),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        ({2, 1}, [1, 2]),
        (frozenset("ba"), ["a", "b"]),
        ("ab", None),
        (5, None),
        (True, None),
    ],
)
def test_what_is_a_collection(value: Any, items: Any) -> None:
    assert as_items(value) == items


def test_an_envelope_has_all_its_parts() -> None:
    assert envelope("ok", 2) == {
        "status": "ok",
        "data": None,
        "ref": None,
        "error": None,
        "meta": {"attempt": 2},
        "extra": {},
    }
    full = envelope("error", 1, 5, ref={"r": 1}, error={"e": 1}, meta={"m": 1}, extra={"x": 1})
    assert full == {
        "status": "error",
        "data": 5,
        "ref": {"r": 1},
        "error": {"e": 1},
        "meta": {"attempt": 1, "m": 1},
        "extra": {"x": 1},
    }


def test_the_end_of_a_sub_playbook_is_an_output() -> None:
    good = child_output({"status": "ok", "data": 1, "ref": {"r": 1}, "execution_id": "9"}, 2, 10)
    assert good == envelope("ok", 2, 1, ref={"r": 1}, meta={"execution_id": "9"})
    bad = child_output({"status": "error", "error": {"code": "boom", "message": "m"}, "data": 1}, 2, 10)
    error = {"kind": "playbook", "code": "boom", "retryable": False, "message": "m", "at": 10}
    assert bad == envelope("error", 2, 1, error=error)
    silent = child_output({"status": "error"}, 1, 10)
    assert (silent["error"]["code"], silent["error"]["message"]) == ("child.failed", "the sub-playbook failed")
