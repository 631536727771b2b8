"""Recorded loop items, found again when a loop's frames or its collection are different."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ..engine import events as e
from ..engine.canonical import canonical
from ..engine.events import Event
from ..engine.state import token_key


class RecordedItems:
    """The items of all loops of a log. `opened` takes the event that opens a loop now; `same` and `frame` need it."""

    def __init__(self, log: Iterable[Event]) -> None:
        self._loops: dict[str, Mapping[str, Any]] = {}
        # loop -> item index -> the frame it was in
        self._frames: dict[str, dict[int, Mapping[str, Any]]] = {}
        # loop -> item index now -> item index recorded
        self._places: dict[str, dict[int, int]] = {}
        self._same: dict[str, bool] = {}
        for event in log:
            key = token_key(event.step or "", event.generation or 0)
            if event.type == e.LOOP_OPENED:
                self._loops[key] = event.payload
            elif event.type in e.FRAMES:
                found = self._frames.setdefault(key, {})
                found.update(dict.fromkeys(range(event.payload["start"], event.payload["end"]), event.payload))

    def opened(self, event: Event) -> None:
        key = token_key(event.step or "", event.generation or 0)
        recorded, now = self._loops.get(key), event.payload
        if recorded is None:
            self._same[key], self._places[key] = False, {}
            return
        self._same[key] = _collection(recorded) == _collection(now)
        one, other = recorded.get("data"), now.get("data")
        if self._same[key] or not (isinstance(one, list) and isinstance(other, list)):
            self._places[key] = {index: index for index in range(min(recorded["count"], now["count"]))}
        else:
            self._places[key] = _matched(one, other)

    def same(self, key: str) -> bool:
        """Whether the loop, which is open now, has the recorded items."""
        return self._same[key]

    def frame(self, key: str, start: int, end: int) -> dict[str, Any] | None:
        """The payload of a frame of the items from `start` up to the first unrecorded one; None if there is none."""
        found = []
        for index in range(start, end):
            place = self._places.get(key, {}).get(index, -1)
            frame = self._frames.get(key, {}).get(place)
            if frame is None:
                break
            found.append((place, frame))
        if not found:
            return None
        failed = [(place, frame) for place, frame in found if _failed(place, frame)]
        payload: dict[str, Any] = {"start": start, "end": start + len(found)}
        payload |= {"ok": len(found) - len(failed), "failed": len(failed)}
        refs = [frame["ref"] for _, frame in found if frame.get("ref") is not None]
        if refs:
            payload["ref"] = refs[0]
        else:
            payload["data"] = [frame["data"][place - frame["start"]] for place, frame in found]
            payload["bytes"] = len(canonical(payload["data"]))
        payload |= _set_by(found, start)
        if failed:
            place, frame = failed[0]
            error = frame.get("errors", {}).get(str(place)) or frame.get("error") or {}
            payload["error"] = {**error, "index": start + found.index(failed[0])}
        return payload


def _set_by(found: list[tuple[int, Mapping[str, Any]]], start: int) -> dict[str, Any]:
    """What these items have set in ctx, as far as the record tells: of each key, it has the last item of a frame."""
    parts: dict[str, dict[str, Any]] = {"set": {}, e.SET_REFS: {}, e.SET_BY: {}}
    for index, (place, frame) in enumerate(found, start):
        # of frames that do not say, all was set by the last item
        last = frame.get(e.SET_BY, {})
        for part, other in (("set", e.SET_REFS), (e.SET_REFS, "set")):
            for name, value in frame.get(part, {}).items():
                if last.get(name, frame["end"] - 1) == place:
                    parts[part][name], parts[e.SET_BY][name] = value, index
                    parts[other].pop(name, None)
    return {part: values for part, values in parts.items() if values}


def _failed(place: int, frame: Mapping[str, Any]) -> bool:
    if not frame.get("failed"):
        return False
    if str(place) in frame.get("errors", {}):
        return True
    if frame["failed"] <= len(frame.get("errors", {})) or frame.get("ref") is not None:
        return False
    # only the first few errors are listed; a failed item has no result
    return (frame.get("data") or [])[place - frame["start"]] is None


def _collection(opening: Mapping[str, Any]) -> str:
    ref = opening.get("ref")
    stored = ref.get("meta", {}).get("sha256") if isinstance(ref, Mapping) else None
    return canonical([opening["count"], opening.get("data"), stored])


def _matched(recorded: list[Any], now: list[Any]) -> dict[int, int]:
    """Index now -> recorded index, for items of the same value, each used once, in order."""
    places: dict[str, deque[int]] = {}
    for index, item in enumerate(recorded):
        places.setdefault(canonical(item), deque()).append(index)
    found = {}
    for index, item in enumerate(now):
        if left := places.get(canonical(item)):
            found[index] = left.popleft()
    return found
