"""How the items of a loop are cut into frames."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine.evolve_loops import after_frame
from noetl_serverless.engine.frames import next_frame, width_of
from noetl_serverless.engine.state import Loop
from noetl_serverless.limits import LOOP_INLINE_BYTES


def loop(count: int = 10_000, width: int = 16, **more: Any) -> Loop:
    values: dict[str, Any] = {"sequential": False, "best_effort": False, "single": False, **more}
    return Loop(count=count, max_in_flight=width, **values)


@pytest.mark.parametrize(
    ("of", "in_flight", "frame"),
    [
        # of items that nothing is known of, or that are slow, each travels alone
        ({}, 0, (0, 0, 1, 1)),
        ({"item_ms": 50.0}, 0, (0, 0, 1, 1)),
        ({"item_ms": 1.0, "single": True}, 0, (0, 0, 1, 1)),
        # unless there are so many, and so many at once, that a few together still go to every worker
        ({"width": 64}, 0, (0, 0, 4, 4)),
        ({"width": 2000}, 0, (0, 0, 4, 4)),
        ({"width": 47}, 0, (0, 0, 2, 2)),
        ({"width": 31}, 0, (0, 0, 1, 1)),
        ({"width": 64, "count": 512}, 0, (0, 0, 4, 4)),
        ({"width": 64, "count": 511}, 0, (0, 0, 3, 3)),
        ({"width": 64, "count": 256}, 0, (0, 0, 2, 2)),
        ({"width": 64, "count": 255}, 0, (0, 0, 1, 1)),
        ({"width": 64}, 62, (0, 0, 2, 2)),
        ({"width": 64, "next": 9_999}, 0, (0, 9_999, 10_000, 1)),
        ({"width": 64, "item_ms": 50.0}, 0, (0, 0, 1, 1)),
        ({"width": 64, "single": True}, 0, (0, 0, 1, 1)),
        ({"width": 64, "sequential": True}, 0, (0, 0, 1, 1)),
        # of short ones as many as fill a quarter of a second, a quarter of the width at a time
        ({"item_ms": 49.0}, 0, (0, 0, 20, 4)),
        ({"item_ms": 10.0}, 0, (0, 0, 100, 4)),
        ({"item_ms": 1.0}, 0, (0, 0, 1000, 4)),
        ({"item_ms": 0.01}, 0, (0, 0, 1000, 4)),
        ({"item_ms": 10.0}, 14, (0, 0, 50, 2)),
        ({"item_ms": 10.0, "width": 3}, 0, (0, 0, 25, 1)),
        # towards the end fewer: an eighth of what is left, but no fewer than run at once
        ({"item_ms": 10.0, "count": 400}, 0, (0, 0, 50, 4)),
        ({"item_ms": 10.0, "count": 401}, 0, (0, 0, 51, 4)),
        ({"item_ms": 10.0, "count": 8}, 0, (0, 0, 4, 4)),
        ({"item_ms": 10.0, "count": 3}, 0, (0, 0, 3, 4)),
        # one after the other: as many as fill a quarter of a second
        ({"item_ms": 10.0, "sequential": True}, 0, (0, 0, 25, 1)),
        ({"item_ms": 0.1, "sequential": True}, 0, (0, 0, 1000, 1)),
        ({"item_ms": 10.0, "sequential": True, "count": 7}, 0, (0, 0, 7, 1)),
        ({"item_ms": 60.0, "sequential": True}, 0, (0, 0, 1, 1)),
        # where it has come to
        ({"next": 40, "frames": 7}, 3, (7, 40, 41, 1)),
        ({"next": 40, "frames": 7, "returned": ((5, 9), (20, 30))}, 0, (7, 5, 6, 1)),
        ({"next": 40, "item_ms": 10.0, "returned": ((5, 9), (20, 30))}, 0, (0, 5, 9, 4)),
        # there is no room, or nothing left
        ({}, 16, None),
        ({}, 17, None),
        ({}, 15, (0, 0, 1, 1)),
        ({"sequential": True}, 1, None),
        ({"next": 10_000}, 0, None),
        ({"count": 0}, 0, None),
        ({"error": {"code": "x"}}, 0, None),
        ({"error": {"code": "x"}, "best_effort": True}, 0, (0, 0, 1, 1)),
    ],
)
def test_the_next_frame(of: dict[str, Any], in_flight: int, frame: Any) -> None:
    assert next_frame(loop(**of), in_flight) == frame


def test_an_item_that_may_wait_for_its_next_attempt_holds_up_no_other() -> None:
    assert next_frame(loop(width=64), 0, may_retry=True) == (0, 0, 1, 1)
    assert next_frame(loop(width=64, item_ms=10.0), 0, may_retry=True) == (0, 0, 400, 16)


@pytest.mark.parametrize(
    ("of", "in_flight", "frame"),
    [
        # as many as a frame may have, as wide as the loop may be, whatever is known of the items
        ({}, 0, (0, 0, 1000, 16)),
        ({"item_ms": 400.0}, 0, (0, 0, 1000, 16)),
        ({"count": 7}, 0, (0, 0, 7, 7)),
        ({"sequential": True}, 0, (0, 0, 1000, 1)),
        ({"next": 9_990, "returned": ((5, 9),)}, 0, (0, 5, 9, 4)),
        # one batch at a time
        ({}, 16, None),
        # an item that may start a sub-playbook goes alone
        ({"single": True}, 0, (0, 0, 1, 1)),
    ],
)
def test_a_local_loop_is_cut_into_as_few_frames_as_possible(of: dict[str, Any], in_flight: int, frame: Any) -> None:
    assert next_frame(loop(**of), in_flight, local=True) == frame


def test_no_more_of_a_frame_is_under_way_than_there_is_in_it() -> None:
    assert [width_of((0, 3, 10, 4)), width_of((0, 3, 5, 4)), width_of((0, 3, 4, 1))] == [4, 2, 1]


def committed(**more: Any) -> dict[str, Any]:
    return {"start": 0, "end": 4, "ok": 3, "failed": 1, **more}


def test_what_a_frame_gives_is_counted() -> None:
    after = after_frame(loop(ok=2, failed=1, bytes=7), (0, 0, 4, 1), committed(data=[1, 2, None, 4], bytes=9))
    assert (after.ok, after.failed, after.bytes, after.results) == (5, 2, 16, ((0, [1, 2, None, 4]),))
    assert (after.returned, after.item_ms, after.error) == ((), None, None)


def test_what_it_did_not_get_to_is_handed_back_in_order() -> None:
    held = loop(returned=((2, 3), (20, 30)))
    assert after_frame(held, (0, 0, 9, 1), committed()).returned == ((2, 3), (4, 9), (20, 30))
    assert after_frame(held, (0, 0, 4, 1), committed()).returned == held.returned


@pytest.mark.parametrize(
    ("before", "measured", "after"),
    [(None, 4.0, 4.0), (None, None, None), (2.0, None, 2.0), (2.0, 4.0, 3.0), (1.0, 1.001, 1.0), (2.0, 0.0, 2.0)],
)
def test_the_time_of_an_item_is_half_of_what_it_was(before: Any, measured: Any, after: Any) -> None:
    payload = committed() if measured is None else committed(item_ms=measured)
    assert after_frame(loop(item_ms=before), (0, 0, 4, 1), payload).item_ms == after


def test_results_are_kept_while_they_are_small_and_none_is_stored() -> None:
    kept = loop(bytes=LOOP_INLINE_BYTES - 5, results=((4, [1]),))
    assert after_frame(kept, (0, 0, 4, 1), committed(data=[2], bytes=5)).results == ((4, [1]), (0, [2]))
    assert after_frame(kept, (0, 0, 4, 1), committed(data=[2], bytes=6)).results is None
    assert after_frame(loop(), (0, 0, 4, 1), committed(ref={"key": "k"})).results is None
    assert after_frame(loop(results=None), (0, 0, 4, 1), committed(data=[2])).results is None
    assert after_frame(loop(), (0, 0, 4, 1), committed()).results == ((0, []),)


def test_the_first_error_stays() -> None:
    first, second = {"code": "first"}, {"code": "second"}
    assert after_frame(loop(), (0, 0, 4, 1), committed(error=first)).error == first
    assert after_frame(loop(error=first), (0, 0, 4, 1), committed(error=second)).error == first
