"""How a loop's items are divided into frames: a pure function of the loop's window.

A slow item gets a frame of its own, so that items spread over all workers. So does one whose duration is unknown,
unless the loop is long and wide and retries nothing: then a few, all under way at once, share one, because a frame
costs more than a short item. Once items prove to be short, a frame takes as many as fill about a quarter of a second,
so that 100,000 short items are hundreds of commands. Towards the end, frames shrink so that no worker waits for the
last one.

A playbook may choose instead: a frame for each item (`exec: distributed`, a single loop), or frames as large as they
may be, one at a time (`exec: local`).
"""

from __future__ import annotations

from .state import Cursor, Loop

Frame = tuple[int, int, int, int]

TARGET_FRAME_MS = 250.0
SLOW_ITEM_MS = 50.0
MAX_ITEMS = 1000
# how many frames a worker should have in hand when items are short
FRAMES_IN_FLIGHT = 4
# while the duration of items is unknown: how many share a frame at most, and how many frames that must leave, at once
# and altogether
UNKNOWN_ITEMS = 4
UNKNOWN_FRAMES_IN_FLIGHT = 16
UNKNOWN_FRAMES = 128


def width_of(frame: Frame) -> int:
    """How many of its items are under way at once."""
    _, start, end, concurrency = frame
    return min(concurrency, end - start)


def next_items(loop: Loop) -> tuple[int, int] | None:
    """(start, end) of the items that the next frame is taken from; None if the loop issues no more."""
    if loop.error is not None and not loop.best_effort:
        return None
    start, end = loop.returned[0] if loop.returned else (loop.next, loop.count)
    return (start, end) if start < end else None


def next_frame(loop: Loop, in_flight: int, *, may_retry: bool = False, local: bool = False) -> Frame | None:
    """(index, start, end, concurrency) of the frame to issue now, if there is room and items are left; `in_flight`:
    items of the loop that are under way; `may_retry`: whether one may wait for its next attempt, which those that
    share its frame would wait for; `local`: whether the loop is to run in as few frames as possible."""
    if (items := next_items(loop)) is None:
        return None
    start, end = items
    free_slots = (1 if loop.sequential else loop.max_in_flight) - in_flight
    if free_slots <= 0:
        return None
    if local and not loop.single:
        size = min(end - start, MAX_ITEMS)
        return loop.frames, start, start + size, min(free_slots, size)
    size, concurrency = _shape(loop, end - start, free_slots, may_retry)
    return loop.frames, start, start + size, concurrency


def may_claim(loop: Loop, cursor: Cursor) -> bool:
    """Whether there may be items left to claim: as long as a slot is left that has not found that there are none."""
    return next_items(loop) is not None and cursor.drained < loop.max_in_flight


def next_claim(loop: Loop, cursor: Cursor, in_flight: int) -> Frame | None:
    """The same as `next_frame` for a loop over a cursor; `in_flight`: frames."""
    if not may_claim(loop, cursor) or in_flight >= loop.max_in_flight - cursor.drained:
        return None
    return loop.frames, loop.next, loop.next + cursor.rows, 1


def _shape(loop: Loop, remaining: int, free_slots: int, may_retry: bool) -> tuple[int, int]:
    if loop.single or (loop.item_ms or 0.0) >= SLOW_ITEM_MS:
        return 1, 1
    if not loop.item_ms:
        few = min(UNKNOWN_ITEMS, loop.max_in_flight // UNKNOWN_FRAMES_IN_FLIGHT, loop.count // UNKNOWN_FRAMES)
        width = 1 if loop.sequential or may_retry else max(1, min(few, free_slots, remaining))
        return width, width
    if loop.sequential:
        return min(remaining, MAX_ITEMS, max(1, int(TARGET_FRAME_MS / loop.item_ms))), 1
    concurrency = min(free_slots, max(1, loop.max_in_flight // FRAMES_IN_FLIGHT))
    even_share = max(concurrency, -(-remaining // (2 * FRAMES_IN_FLIGHT)))
    return min(remaining, even_share, MAX_ITEMS, max(1, int(TARGET_FRAME_MS * concurrency / loop.item_ms))), concurrency
