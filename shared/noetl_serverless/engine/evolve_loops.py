"""What the events of loops change in the state: a loop's window, and the outcome of a run of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..limits import LOOP_INLINE_BYTES
from . import events as e
from .budget import record_spent
from .events import Event
from .evolve_steps import assign, begin, is_stale
from .state import Cursor, Loop, State, split_token_key, token_key


def loop_opened(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None
    payload = event.payload
    key = token_key(event.step, event.generation)
    # without it, every frame of the loop has its own
    phase: Any = "sharing" if "ctx" in payload.get("scope", {}) else "looping"
    if key in state.tokens:
        state.tokens[key] = replace(state.tokens[key], phase=phase)
    else:
        begin(state, event.step, event.generation, phase)
    count = payload["count"]
    if (claims := payload.get("cursor")) is not None:
        state.cursors[key] = Cursor(claims["rows"])
        count = claims["rows"] * claims["frames"]
    loop = Loop(
        count=count,
        sequential=payload["mode"] == "sequential",
        max_in_flight=payload["max_in_flight"],
        best_effort=payload["best_effort"],
        single=payload["single"],
    )
    if (reused := state.reused.pop(key, None)) is not None:
        loop = _with_reused(loop, reused["frames"])
        for frame in reused["frames"]:
            if items := frame.get(e.SET_BY):
                # what they have set is in ctx already
                earlier = state.writers.get(key, {})
                state.writers[key] = {**earlier, **{name: max(at, earlier.get(name, 0)) for name, at in items.items()}}
    state.loops[key] = loop


def _with_reused(loop: Loop, frames: Sequence[Mapping[str, Any]]) -> Loop:
    """What is left are the items between the frames, and those behind the last one."""
    gaps: list[tuple[int, int]] = []
    end = 0
    for frame in frames:
        if end < frame["start"]:
            gaps.append((end, frame["start"]))
        end = frame["end"]
        loop = after_frame(loop, (0, frame["start"], end, 1), frame)
    return replace(loop, next=end, returned=tuple(gaps))


def unopened(state: State, key: str) -> Loop | None:
    """A loop of which another execution has done items, and that has not gone on in this one."""
    if (reused := state.reused.get(key)) is None:
        return None
    # how its items would run does not matter
    loop = Loop(count=reused["count"], sequential=False, max_in_flight=1, best_effort=False, single=False)
    return _with_reused(loop, reused["frames"])


def loop_reused(state: State, event: Event) -> None:
    payload = event.payload
    items = {name: payload[name] for name in ("data", "ref") if name in payload}
    key = token_key(event.step or "", event.generation or 0)
    before = {"before": payload["before"]} if "before" in payload else {}
    state.reused[key] = {"count": payload["count"], "items": items, "frames": [], **before}


def frame_reused(state: State, event: Event) -> None:
    key = token_key(event.step or "", event.generation or 0)
    loop = state.reused[key]
    state.reused[key] = {**loop, "frames": [*loop["frames"], event.payload]}


def frame_committed(state: State, event: Event) -> None:
    command = state.commands.pop(event.command_id or "", None)
    if command is None or command.frame is None or command.key not in state.loops:
        return
    record_spent(state, event)
    assign(state, event)
    loop = after_frame(state.loops[command.key], command.frame, event.payload)
    if command.key in state.cursors:
        loop = _after_claim(state, command.key, loop, event.payload)
    state.loops[command.key] = loop


def _after_claim(state: State, key: str, loop: Loop, payload: dict[str, Any]) -> Loop:
    """Indexes for which there was no row are not returned. When a claim has failed, no more frames are issued."""
    cursor = state.cursors[key]
    if payload.get("error") and payload["start"] == payload["end"]:
        loop = replace(loop, best_effort=False, error=payload["error"])
    if payload.get("drained"):
        state.cursors[key] = replace(cursor, drained=cursor.drained + 1)
    elif payload["start"] < payload["end"]:
        state.cursors[key] = replace(cursor, drained=max(0, cursor.drained - 1))
    return replace(loop, returned=())


def after_frame(loop: Loop, frame: tuple[int, int, int, int], payload: Mapping[str, Any]) -> Loop:
    _, start, end, _ = frame
    next_item = payload["end"]
    returned = tuple(sorted((*loop.returned, (next_item, end)))) if next_item < end else loop.returned
    item_ms = payload.get("item_ms") or loop.item_ms
    if loop.item_ms and item_ms:
        item_ms = round(0.5 * loop.item_ms + 0.5 * item_ms, 3)
    results, size = loop.results, loop.bytes + payload.get("bytes", 0)
    if results is not None:
        fits = size <= LOOP_INLINE_BYTES and payload.get("ref") is None
        results = (*results, (start, payload.get("data") or [])) if fits else None
    return replace(
        loop,
        ok=loop.ok + payload["ok"],
        failed=loop.failed + payload["failed"],
        returned=returned,
        item_ms=item_ms,
        error=loop.error or payload.get("error"),
        results=results,
        bytes=size,
    )


def loop_done(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None
    key = token_key(event.step, event.generation)
    loop = state.loops.pop(key, None) or unopened(state, key)
    if loop is not None and key in state.cursors:
        loop = claimed(loop)
        del state.cursors[key]
    state.writers.pop(key, None)
    state.reused.pop(key, None)
    if key not in state.tokens:
        begin(state, event.step, event.generation, "looping")
    if not is_stale(state, event):
        state.outcomes[event.step] = loop_outcome(state.execution_id, key, event.payload, loop)


def claimed(loop: Loop) -> Loop:
    """The loop over a cursor at its end, whose items are those that were claimed."""
    return replace(loop, count=loop.ok + loop.failed)


def loop_outcome(execution_id: str, key: str, end: Mapping[str, Any], loop: Loop | None) -> dict[str, Any]:
    """The envelope of a run of a loop, by its key; `end`: its status, and its error if it has one."""
    outcome: dict[str, Any] = {"status": end["status"]}
    if end.get("error"):
        outcome["error"] = end["error"]
    if loop is None:
        return outcome
    if loop.results is not None:
        outcome["data"] = {"results": _results(loop, loop.results), "stats": loop.stats}
    else:
        step, generation = split_token_key(key)
        meta = {"bytes": loop.bytes}
        outcome["ref"] = {
            "kind": "manifest",
            "ref": f"noetl://execution/{execution_id}/manifest/{step}/{generation}",
            "store": "manifest",
            # of the items that have ended
            "count": loop.ok + loop.failed,
            "meta": meta if loop.is_done else {**meta, "partial": True},
            "extracted": {"stats": loop.stats},
        }
    return outcome


def _results(loop: Loop, parts: Sequence[tuple[int, list[Any]]]) -> list[Any]:
    """In the order of the items. Of a loop that ended before all of them had, each is at the place of its item."""
    results: list[Any] = []
    for start, items in sorted(parts, key=lambda part: part[0]):
        if not loop.is_done:
            results += [None] * (start - len(results))
        results += items
    return results
