"""Recorded items in frames that are cut in another way: which of them had failed."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.inspection.loop_items import RecordedItems

ERROR = {"kind": "tool", "code": "boom", "message": "it broke"}


def items(data: list[Any], **recorded: Any) -> RecordedItems:
    """One recorded frame of all of `data`, in a loop that is opened as it was."""
    opening = {"count": len(data), "data": list(range(len(data)))}
    failed = recorded.get("failed", 0)
    frame = {"start": 0, "end": len(data), "ok": len(data) - failed, "failed": failed, "data": data, **recorded}
    opened = Event(e.LOOP_OPENED, 1, seq=1, step="each", generation=1, payload=opening)
    found = RecordedItems(
        [
            opened,
            Event(e.FRAME_COMMITTED, 2, seq=2, step="each", generation=1, command_id="c", payload=frame),
        ]
    )
    found.opened(opened)
    return found


def counts(found: RecordedItems) -> list[tuple[int, int]]:
    """(ok, failed) of each item in a frame of its own."""
    frames = []
    index = 0
    while (frame := found.frame("each#1", index, index + 1)) is not None:
        frames.append((frame["ok"], frame["failed"]))
        index += 1
    return frames


def test_an_item_whose_error_is_known_has_failed() -> None:
    found = items(["a", None, "c"], failed=1, errors={"1": ERROR})
    assert counts(found) == [(1, 0), (0, 1), (1, 0)]
    assert found.frame("each#1", 0, 3)["error"] == {**ERROR, "index": 1}  # type: ignore[index]


def test_where_more_failed_than_errors_are_known_those_without_a_result_have_failed() -> None:
    found = items(["a", None, None, "d"], failed=2, errors={"1": ERROR})
    assert counts(found) == [(1, 0), (0, 1), (0, 1), (1, 0)]


def test_where_all_errors_are_known_an_item_without_a_result_has_not_failed() -> None:
    assert counts(items([None, None], failed=1, errors={"1": ERROR})) == [(1, 0), (0, 1)]
    assert counts(items([None, None])) == [(1, 0), (1, 0)]


@pytest.mark.parametrize("start", [0, 1])
def test_an_item_known_only_by_reference_has_failed_if_its_error_is_known(start: int) -> None:
    ref = {"store": "s3", "key": "7/each/0.arrow"}
    found = items([None, None], failed=2, errors={"0": ERROR}, ref=ref)
    assert counts(found)[start] == [(0, 1), (1, 0)][start]
    assert found.frame("each#1", 0, 2)["ref"] == ref  # type: ignore[index]


def looped(start: int, data: list[Any] | None = None, **recorded: Any) -> RecordedItems:
    """A loop of ten items of which those from `start` on were recorded, in frames of two."""
    opened = Event(
        e.LOOP_OPENED,
        1,
        seq=1,
        step="each",
        generation=1,
        payload={"count": 10, "data": data or list(range(10))},
    )
    frames = [
        {"start": first, "end": first + 2, "ok": 2, "failed": 0, "data": [f"r{first}", f"r{first + 1}"]} | recorded
        for first in range(start, 10, 2)
    ]
    log = [
        Event(e.FRAME_COMMITTED, 2, seq=2 + n, step="each", generation=1, command_id=f"c{n}", payload=frame)
        for n, frame in enumerate(frames)
    ]
    return RecordedItems([opened, *log])


def reopened(found: RecordedItems, data: list[Any] | None, **opening: Any) -> RecordedItems:
    payload = {"count": len(data or []), "data": data, **opening}
    found.opened(Event(e.LOOP_OPENED, 1, seq=1, step="each", generation=1, payload=payload))
    return found


def test_a_frame_is_put_together_from_others_as_far_as_they_go() -> None:
    found = reopened(looped(2), list(range(10)))
    assert found.same("each#1")
    frame = found.frame("each#1", 3, 6)
    assert frame == {"start": 3, "end": 6, "ok": 3, "failed": 0, "data": ["r3", "r4", "r5"], "bytes": 16}
    assert found.frame("each#1", 1, 4) is None, "the first of them was not recorded"
    assert found.frame("each#1", 9, 12) == {"start": 9, "end": 10, "ok": 1, "failed": 0, "data": ["r9"], "bytes": 6}
    assert found.frame("other#1", 0, 1) is None


def test_items_are_found_by_their_value_each_once_and_in_order() -> None:
    found = reopened(looped(0, ["a", "b", "a", "c", 1, 1.0, {}, [], None, "z"]), ["a", "a", "a", "new", 1, "z"])
    assert not found.same("each#1")
    results = [frame and frame["data"] for index in range(6) for frame in [found.frame("each#1", index, index + 1)]]
    assert results == [["r0"], ["r2"], None, None, ["r4"], ["r9"]]


@pytest.mark.parametrize(("sha", "same"), [("x", True), ("y", False)])
def test_a_collection_that_is_stored_is_known_by_its_sum_and_its_items_by_their_place(sha: str, same: bool) -> None:
    opening = {"count": 2, "ref": {"meta": {"sha256": "x"}}}
    frame = {"start": 0, "end": 2, "ok": 2, "failed": 0, "data": ["p", "q"]}
    log = [Event(e.LOOP_OPENED, 1, seq=1, step="each", generation=1, payload=opening)]
    found = RecordedItems(
        [*log, Event(e.FRAME_COMMITTED, 2, seq=2, step="each", generation=1, command_id="c", payload=frame)]
    )
    reopened(found, None, count=3, ref={"meta": {"sha256": sha}})
    assert not found.same("each#1"), "another count is another collection"
    reopened(found, None, count=2, ref={"meta": {"sha256": sha}})
    assert found.same("each#1") is same
    assert [found.frame("each#1", n, n + 1) is not None for n in range(3)] == [True, True, False]


def test_a_loop_that_was_not_recorded_has_none_of_its_items() -> None:
    found = RecordedItems([])
    opened = Event(
        e.LOOP_OPENED,
        1,
        seq=1,
        step="each",
        generation=1,
        payload={"count": 1, "data": [1]},
    )
    found.opened(opened)
    assert not found.same("each#1")
    assert found.frame("each#1", 0, 1) is None


def test_the_first_error_of_a_frame_is_shown_with_the_item_s_place_now() -> None:
    found = items(["a", None, None], failed=2, error={**ERROR, "index": 1})
    assert found.frame("each#1", 2, 3)["error"] == {**ERROR, "index": 2}  # type: ignore[index]
    assert "error" not in (found.frame("each#1", 0, 1) or {})
    frame = reopened(looped(0, list("abcdefghij"), ok=1, failed=1, errors={"5": ERROR}), ["f", "a"]).frame(
        "each#1", 0, 2
    )
    assert frame is not None
    assert (frame["data"], frame["error"], frame["failed"]) == (["r5", "r0"], {**ERROR, "index": 0}, 1)


def test_an_item_of_a_later_frame_is_found_by_its_place_within_it() -> None:
    opened = Event(
        e.LOOP_OPENED,
        1,
        seq=1,
        step="each",
        generation=1,
        payload={"count": 4, "data": [*range(4)]},
    )
    frames = [
        Event(
            e.FRAME_COMMITTED,
            2,
            seq=2,
            step="each",
            generation=1,
            command_id="c",
            payload={"start": 0, "end": 2, "ok": 2, "failed": 0, "data": [0, 1]},
        ),
        Event(
            e.FRAME_COMMITTED,
            3,
            seq=3,
            step="each",
            generation=1,
            command_id="d",
            payload={"start": 2, "end": 4, "ok": 1, "failed": 1, "data": [2, None]},
        ),
    ]
    found = RecordedItems([opened, *frames])
    found.opened(opened)
    assert counts(found) == [(1, 0), (1, 0), (1, 0), (0, 1)]


def test_what_an_item_has_set_comes_with_it() -> None:
    ref = {"store": "s3", "key": "7/each/0.json"}
    recorded: dict[str, Any] = {"set": {"a": "A", "b": "B"}, "set_refs": {"c": ref}, "set_by": {"a": 2, "b": 0, "c": 1}}
    found = items(["p", "q", "r"], **recorded)
    (first, second) = (found.frame("each#1", 0, 2), found.frame("each#1", 2, 3))
    assert first is not None
    assert second is not None
    names = ("set", "set_refs", "set_by")
    assert [first.get(name) for name in names] == [{"b": "B"}, {"c": ref}, {"b": 0, "c": 1}]
    assert [second.get(name) for name in names] == [{"a": "A"}, None, {"a": 2}]


def test_where_a_frame_does_not_say_who_set_what_it_was_its_last_item() -> None:
    found = items(["p", "q"], set={"a": "A"})
    assert [(frame or {}).get("set") for n in range(2) for frame in [found.frame("each#1", n, n + 1)]] == [
        None,
        {"a": "A"},
    ]


def test_of_what_two_frames_set_by_value_and_by_reference_the_later_one_is_kept() -> None:
    opened = Event(e.LOOP_OPENED, 1, seq=1, step="each", generation=1, payload={"count": 2, "data": [0, 1]})
    base = {"ok": 1, "failed": 0, "data": [None]}
    frames = [
        {"start": 0, "end": 1, **base, "set_refs": {"a": {"key": "k"}}, "set_by": {"a": 0}},
        {"start": 1, "end": 2, **base, "set": {"a": 5}, "set_by": {"a": 1}},
    ]
    log = [
        Event(e.FRAME_COMMITTED, 2, seq=n, step="each", generation=1, command_id=f"c{n}", payload=frame)
        for n, frame in enumerate(frames, 2)
    ]
    found = RecordedItems([opened, *log])
    found.opened(opened)
    frame = found.frame("each#1", 0, 2)
    assert frame is not None
    assert (frame.get("set"), frame.get("set_refs"), frame["set_by"]) == ({"a": 5}, None, {"a": 1})
