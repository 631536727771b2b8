"""Recorded items in frames that are cut in another way: which of them had failed."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.items import Items

ERROR = {"kind": "tool", "code": "boom", "message": "it broke"}


def items(data: list[Any], **recorded: Any) -> Items:
    """One recorded frame of all of `data`, in a loop that is opened as it was."""
    opening = {"count": len(data), "data": list(range(len(data)))}
    failed = recorded.get("failed", 0)
    frame = {"start": 0, "end": len(data), "ok": len(data) - failed, "failed": failed, "data": data, **recorded}
    opened = Event(e.LOOP_OPENED, 1, 1, None, "each", 1, None, opening)
    found = Items([opened, Event(e.FRAME_COMMITTED, 2, 2, None, "each", 1, "c", frame)])
    found.opened(opened)
    return found


def counts(found: Items) -> list[tuple[int, int]]:
    """(ok, failed) of each item in a frame of its own."""
    frames = []
    index = 0
    while (frame := found.frame("each#1", index, index + 1)) is not None:
        frames.append((frame["ok"], frame["failed"]))
        index += 1
    return frames


def test_an_item_whose_error_is_told_has_failed() -> None:
    found = items(["a", None, "c"], failed=1, errors={"1": ERROR})
    assert counts(found) == [(1, 0), (0, 1), (1, 0)]
    assert found.frame("each#1", 0, 3)["error"] == {**ERROR, "index": 1}  # type: ignore[index]


def test_where_more_failed_than_errors_are_told_those_without_a_result_have_failed() -> None:
    found = items(["a", None, None, "d"], failed=2, errors={"1": ERROR})
    assert counts(found) == [(1, 0), (0, 1), (0, 1), (1, 0)]


def test_where_all_errors_are_told_an_item_without_a_result_has_not_failed() -> None:
    assert counts(items([None, None], failed=1, errors={"1": ERROR})) == [(1, 0), (0, 1)]
    assert counts(items([None, None])) == [(1, 0), (1, 0)]


@pytest.mark.parametrize("start", [0, 1])
def test_what_is_known_only_by_reference_has_failed_as_far_as_its_error_is_told(start: int) -> None:
    ref = {"store": "s3", "key": "7/each/0.arrow"}
    found = items([None, None], failed=2, errors={"0": ERROR}, ref=ref)
    assert counts(found)[start] == [(0, 1), (1, 0)][start]
    assert found.frame("each#1", 0, 2)["ref"] == ref  # type: ignore[index]
