"""What a worker reports, as a fact of the log."""

from __future__ import annotations

from typing import Any

import orjson

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import Command
from ..errors import InvalidRequest
from ..protocol import Outcome
from .reference import executions_of

# what a log may hold of one result, in bytes of JSON; the worker stores what is larger and reports a reference
INLINE_LIMIT = 64 * 1024
KINDS = {"done": e.CALL_DONE, "error": e.CALL_ERROR, "deferred": e.CALL_DEFERRED, "parked": e.CALL_PARKED}


def fact_of(outcome: Outcome, command: Command, at: int, worker: str) -> Event:
    """The fact, without a seq; raises InvalidRequest for an outcome that does not fit its command."""
    step, _, generation = command.key.rpartition("#")
    payload = _content(outcome, command)
    for name in ("set", "extra"):
        if value := getattr(outcome, name):
            payload[name] = value
    payload["meta"] = {**outcome.meta, "worker": worker, "fence": outcome.fence}
    kind = KINDS[outcome.status]
    if command.kind == "frame" and kind in (e.CALL_DONE, e.CALL_ERROR):
        kind = e.FRAME_COMMITTED
    return Event(kind, at, 0, None, step, int(generation), outcome.command_id, payload)


def references(fact: Event) -> list[dict[str, Any]]:
    """The rows of `result_ref` for what the fact refers to and has just been stored."""
    ref = fact.payload.get("ref")
    if ref is None or "key" not in ref:
        return []
    meta = ref.get("meta", {})
    return [
        {
            "ref": ref["ref"],
            "step": fact.step,
            "store": ref["store"],
            "key": ref["key"],
            "bytes": meta.get("bytes", 0),
            "sha256": meta.get("sha256", ""),
            "content_type": meta.get("content_type", "application/json"),
            "scope": ref.get("scope", "execution"),
            "expires_at": ref.get("expires_at"),
        }
    ]


def _content(outcome: Outcome, command: Command) -> dict[str, Any]:
    match outcome.status:
        case "deferred":
            if outcome.delay is None:
                raise InvalidRequest("a deferred outcome needs `delay`, in seconds")
            return {"delay": outcome.delay, **_optional(resume=outcome.resume)}
        case "parked":
            if outcome.child is None:
                raise InvalidRequest("a parked outcome needs `child`")
            return {"child": outcome.child.model_dump(), **_optional(resume=outcome.resume)}
    payload = _data(outcome)
    if outcome.status == "error":
        payload["error"] = outcome.error or {"kind": "tool", "code": "tool.failed", "message": "failed"}
    if command.kind == "frame":
        payload.update(_frame(outcome, command, payload))
    elif command.kind == "open" and outcome.status == "done":
        if outcome.count is None:
            raise InvalidRequest("the outcome of an `open` command needs `count`")
        payload["count"] = outcome.count
    return payload


def _data(outcome: Outcome) -> dict[str, Any]:
    if outcome.ref is not None:
        executions_of(outcome.ref)
        _sized("a reference", outcome.ref)
        return {"ref": outcome.ref}
    if outcome.data is None:
        return {}
    return {"data": outcome.data, "bytes": _sized("a result", outcome.data)}


def _sized(what: str, value: Any) -> int:
    """In bytes of JSON; raises InvalidRequest above the limit."""
    size = len(orjson.dumps(value))
    if size > INLINE_LIMIT:
        raise InvalidRequest(
            f"{what} of {size} bytes is above the inline limit of {INLINE_LIMIT}: store it and report a reference"
        )
    return size


def _frame(outcome: Outcome, command: Command, payload: dict[str, Any]) -> dict[str, Any]:
    assert command.frame is not None
    _, start, end, _ = command.frame
    frame = outcome.frame
    if frame is None:
        # nothing came back of it, as when a poisoned command is given up: every item failed
        return {"start": start, "end": end, "ok": 0, "failed": end - start, "data": [None] * (end - start)}
    covered = frame.start == start and start <= frame.end <= end and frame.ok + frame.failed == frame.end - start
    if not covered or not all(start <= int(index) < frame.end for index in frame.errors):
        raise InvalidRequest(f"the frame's outcome does not cover its items {start} to {end}")
    counts: dict[str, Any] = {"start": start, "end": frame.end, "ok": frame.ok, "failed": frame.failed}
    if "bytes" in payload:
        # each item with its comma, without the brackets: so that the sum over a loop is the same however it was cut
        counts["bytes"] = payload["bytes"] - 1
    if frame.item_ms:
        counts["item_ms"] = round(frame.item_ms, 3)
    if frame.digest is not None and outcome.ref is not None:
        counts["digest"] = frame.digest
    if frame.errors:
        counts["errors"] = frame.errors
        index = min(frame.errors, key=int)
        counts.setdefault("error", {**frame.errors[index], "index": int(index)})
    if frame.failed and "error" not in counts and "error" not in payload:
        counts["error"] = {"kind": "loop", "code": "loop.item_failed", "message": "an item failed"}
    return counts


def _optional(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
