"""What is taken over of a loop: which of its items are done, in as few ranges as may stand in the log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.inspection.reused_loops import ReusedLoop, lost_items, reused_loop
from noetl_serverless.limits import INLINE_BYTES

BOOM = {"code": "boom", "message": "it broke"}
NUMBERS = {"count": 9, "data": list(range(9))}


def log(*frames: dict[str, Any], generation: int = 1, **opened: Any) -> list[Event]:
    """Of a loop, whose frames have the names of their commands under `command`."""
    seqs = count(1)
    payload = {**NUMBERS, "mode": "parallel", **opened}
    events = [Event(e.LOOP_OPENED, 0, seq=next(seqs), step="each", generation=generation, payload=payload)]
    for number, frame in enumerate(frames):
        kind, command = frame.pop("kind", e.FRAME_COMMITTED), frame.pop("command", f"each#1.{number}")
        events.append(
            Event(kind, 0, seq=next(seqs), step="each", generation=generation, command_id=command, payload=frame)
        )
    return events


def frame(start: int, *results: Any, **more: Any) -> dict[str, Any]:
    end = start + len(results)
    counts = {"start": start, "end": end, "ok": len(results), "failed": 0}
    return {**counts, "data": list(results), "bytes": 10 * len(results), **more}


def ranges(loop: ReusedLoop | None) -> Iterator[tuple[int, int]]:
    assert loop is not None
    return ((frame["start"], frame["end"]) for frame in loop.frames)


def test_ranges_that_follow_one_another_become_one() -> None:
    loop = reused_loop("each", 1, log(frame(4, "e"), frame(0, "a", "b", item_ms=3.0), frame(2, "c")))
    assert loop is not None
    assert [*ranges(loop)] == [(0, 3), (4, 5)]
    assert loop.frames[0] == {
        "start": 0,
        "end": 3,
        "ok": 3,
        "failed": 0,
        "data": ["a", "b", "c"],
        "bytes": 30,
        "item_ms": 3.0,
    }
    assert (loop.done, loop.count, loop.collection) == (4, 9, NUMBERS)
    assert loop.commands == {"each#1.0", "each#1.1", "each#1.2"}


def test_ranges_do_not_become_larger_than_one_event_may_be() -> None:
    half = INLINE_BYTES // 2
    loop = reused_loop("each", 1, log(frame(0, 1, bytes=half), frame(1, 2, bytes=half), frame(2, 3, bytes=1)))
    assert [*ranges(loop)] == [(0, 2), (2, 3)]


def test_results_by_reference_keep_their_range_and_their_digest() -> None:
    stored = {"start": 1, "end": 3, "ok": 2, "failed": 0, "ref": {"key": "7/each"}, "bytes": 10, "digest": "ff"}
    loop = reused_loop("each", 1, log(frame(0, 1), stored, frame(3, 4)))
    assert loop is not None
    assert [*ranges(loop)] == [(0, 1), (1, 3), (3, 4)]
    assert (loop.frames[1]["ref"], loop.frames[1]["digest"]) == ({"key": "7/each"}, "ff")


def test_of_a_range_with_named_failures_the_others_are_done() -> None:
    part = {**frame(0, "a", None, None, "d"), "ok": 3, "failed": 1, "errors": {"1": BOOM}, "error": BOOM}
    loop = reused_loop("each", 1, log(part))
    assert loop is not None
    # an item whose result is null has ended well
    assert [*ranges(loop)] == [(0, 1), (2, 4)]
    assert loop.frames[1]["data"] == [None, "d"]


@pytest.mark.parametrize(
    "more",
    [
        {"failed": 2, "ok": 1, "errors": {"1": BOOM}},
        {"failed": 1, "ok": 2, "errors": {"1": BOOM}, "set": {"n": 1}},
        {"failed": 1, "ok": 2, "errors": {"1": BOOM}, "ref": {"key": "7/each"}},
        {"failed": 3, "ok": 0, "error": BOOM},
        {"failed": 1, "ok": 2, "errors": {"1": BOOM}, "suspended": True},
        {e.IGNORED: "the command is not open"},
    ],
    ids=["a failure without a name", "what it has set", "by reference", "failed as a whole", "set before", "too late"],
)
def test_items_of_which_any_may_have_failed_run_again(more: dict[str, Any]) -> None:
    before = {"kind": e.CALL_PARKED, "command": "each#1.0", "set": {"n": 1}, e.SET_BY: {"n": 1}}
    suspended = [before] if more.pop("suspended", False) else []
    command = {"command": "each#1.0@2"} if suspended else {}
    assert reused_loop("each", 1, log(*suspended, {**frame(0, "a", "b", "c"), **more, **command})) is None


def test_a_loop_over_a_cursor_has_no_items_to_come_back_to() -> None:
    assert reused_loop("each", 1, log(frame(0, 1), cursor={"rows": 1, "frames": 2})) is None
    assert reused_loop("each", 2, log(frame(0, 1))) is None
    assert reused_loop("each", 1, log(frame(0, 1))[1:]) is None


def test_who_has_set_a_key_is_the_highest_item_also_before_its_command_was_suspended() -> None:
    deferred = {"kind": e.CALL_DEFERRED, "command": "each#1.2", e.SET_BY: {"x": 1, "y": 2}}
    other = {"kind": e.CALL_DEFERRED, "command": "each#1.7", e.SET_BY: {"y": 8}}
    went_on = frame(1, 2, 3, command="each#1.2@2", **{e.SET_BY: {"x": 2}})
    events = log(deferred, other, went_on, frame(3, 4), frame(0, 1))
    loop = reused_loop("each", 1, events)
    assert loop is not None
    assert [*ranges(loop)] == [(0, 1), (1, 3), (3, 4)]
    assert loop.frames[1][e.SET_BY] == {"x": 2, "y": 2}


def test_in_a_sequential_loop_what_was_set_last_counts() -> None:
    loop = reused_loop("each", 1, log(frame(0, 1, **{e.SET_BY: {"x": 0}}), frame(1, 2), mode="sequential"))
    assert loop is not None and loop.sequential
    assert [*ranges(loop)] == [(0, 2)]


def test_what_was_taken_over_before_is_taken_over_again() -> None:
    before = {"kind": e.FRAME_REUSED, "command": None, **frame(0, 1, 2), e.SET_BY: {"x": 1}}
    loop = reused_loop("each", 1, log(before, frame(2, 3)))
    assert loop is not None
    assert ([*ranges(loop)], loop.frames[0][e.SET_BY]) == ([(0, 2), (2, 3)], {"x": 1})
    assert loop.commands == {"each#1.1"}


@pytest.mark.parametrize("sequential", [True, False])
def test_it_is_taken_over_again_though_it_was_not_opened(sequential: bool) -> None:
    taken = log({"kind": e.FRAME_REUSED, "command": None, **frame(0, 1, 2)})
    begun = Event(e.LOOP_REUSED, 0, seq=1, step="each", generation=1, payload={**NUMBERS, "done": 2, "of": {}})
    loop = reused_loop("each", 1, [begun, *taken[1:]], sequential=sequential)
    assert loop is not None
    assert ([*ranges(loop)], loop.collection, loop.sequential) == ([(0, 2)], NUMBERS, sequential)


def test_items_that_ended_well_and_are_not_taken_over_are_lost() -> None:
    part = {**frame(0, "a", None), "ok": 1, "failed": 1, "error": BOOM}
    events = log(part, frame(2, "c"), {**frame(3, "d"), e.IGNORED: "the command is not open"})
    assert lost_items("each", 1, reused_loop("each", 1, events), events) == 1
    assert lost_items("each", 1, None, events) == 2
