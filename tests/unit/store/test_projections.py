"""The rows that events make."""

from __future__ import annotations

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.store.projections import project
from noetl_serverless.store.shares import playbook_of


def pool(step: str) -> str:
    return "shared"


def opened(seq: int, count: int) -> Event:
    return Event(e.LOOP_OPENED, 0, seq=seq, step="each", generation=1, payload={"count": count})


def done(seq: int, total: int) -> Event:
    payload = {"status": "ok", "stats": {"total": total, "success": total, "failed": 0}}
    return Event(e.LOOP_DONE, 0, seq=seq, step="each", generation=1, payload=payload)


def test_a_loop_that_opens_and_ends_at_once_is_one_row() -> None:
    rows = project("7", [opened(3, 0), done(4, 0)], pool)

    assert rows.stages == [{"id": "7", "step": "each", "generation": 1, "seq": 3, "count": 0, "status": "ok"}]


def test_a_loop_that_ends_later_writes_its_row_again() -> None:
    assert [row["status"] for row in project("7", [opened(3, 2)], pool).stages] == ["open"]
    assert [row["status"] for row in project("7", [done(9, 2)], pool).stages] == ["ok"]


def test_a_command_waits_in_its_pool_for_its_playbook_and_by_its_weight() -> None:
    payload = {"kind": "step", "attempt": 2, "scope": {}}
    issued = Event(e.ISSUED, 5, seq=4, cause=3, step="a", generation=1, command_id="a#1@2", payload=payload)
    assert project("7", [issued], lambda step: f"pool of {step}", "a/b", 70).commands == [
        {
            "id": "7",
            "command": "a#1@2",
            "step": "a",
            "generation": 1,
            "kind": "step",
            "attempt": 2,
            "pool": "pool of a",
            "playbook": playbook_of("a/b"),
            "weight": 70,
            "status": "pending",
            "seq": 4,
            "due": None,
        }
    ]


def test_a_timer_is_a_command_that_is_due() -> None:
    event = Event(
        e.TIMER_SET,
        5,
        seq=4,
        cause=3,
        step="a",
        generation=1,
        command_id="a#1",
        payload={"timer": "a#1!3", "due": 99, "resume": None},
    )
    (row,) = project("7", [event], pool).commands
    assert (row["command"], row["kind"], row["status"], row["due"], row["attempt"]) == (
        "a#1!3",
        "timer",
        "timer",
        99,
        1,
    )


def test_a_frame_counts_unless_nobody_waited_for_it() -> None:
    payload = {"start": 2, "end": 5, "ok": 2, "failed": 1, "data": [1, None, 2]}
    frame = Event(e.FRAME_COMMITTED, 5, seq=4, step="each", generation=1, command_id="each#1.1", payload=payload)
    late = Event(
        e.FRAME_COMMITTED,
        5,
        seq=5,
        step="each",
        generation=1,
        command_id="each#1.1",
        payload={**payload, e.IGNORED: "the command is not open"},
    )
    assert project("7", [frame, late], pool).frames == [
        {"id": "7", "step": "each", "generation": 1, "seq": 4, "start": 2, "end": 5, "ok": 2, "failed": 1}
    ]


def test_a_loop_that_failed_before_it_opened_has_no_row() -> None:
    failed = Event(e.LOOP_DONE, 0, seq=4, step="each", generation=1, payload={"status": "error", "error": {}})
    assert project("7", [failed], pool).stages == []


def test_a_loop_that_opens_beside_another_ends_by_itself() -> None:
    other = Event(e.LOOP_DONE, 0, seq=5, step="other", generation=1, payload={"status": "ok", "stats": {"total": 3}})
    again = Event(e.LOOP_DONE, 0, seq=6, step="each", generation=2, payload={"status": "error", "stats": {"total": 4}})
    rows = project("7", [opened(3, 2), other, again], pool).stages
    assert [(row["step"], row["generation"], row["seq"], row["count"], row["status"]) for row in rows] == [
        ("each", 1, 3, 2, "open"),
        ("other", 1, 5, 3, "ok"),
        ("each", 2, 6, 4, "error"),
    ]


def test_nothing_else_makes_a_row() -> None:
    others = [Event(kind, 0, seq=1, step="a", generation=1) for kind in (e.STEP_EXIT, e.CALL_DONE, e.COMPLETED)]
    rows = project("7", others, pool)
    assert (rows.commands, rows.stages, rows.frames) == ([], [], [])
