"""What a restart takes over of a loop that has not ended well: its collection, and the items that are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.ids import without_attempt
from ..engine.limits import size_of
from ..limits import DECISION_BYTES, INLINE_BYTES
from ..playbook.plan import Loop

# what is kept of the report of a frame
KEPT = ("data", "ref", "digest", "bytes", "item_ms")
# what is taken over of one loop: ranges of its items, and their bytes
MAX_FRAMES = 10_000
LOOP_BYTES = DECISION_BYTES // 4


@dataclass(kw_only=True, frozen=True, slots=True)
class ReusedLoop:
    """`collection`: {"count", "data" | "ref"}; `frames`: ranges of items that are done, in their order, as in
    FRAME_REUSED; `commands`: those that have run these items, by the names of their first attempts; `seq`: the event
    that opened the loop; `before`: what names of ctx were before these items have set them, if the loop is parallel."""

    step: str
    generation: int
    sequential: bool
    collection: dict[str, Any]
    frames: list[dict[str, Any]]
    commands: frozenset[str]
    seq: int
    before: dict[str, dict[str, Any]]

    @property
    def count(self) -> int:
        count: int = self.collection["count"]
        return count

    @property
    def done(self) -> int:
        return sum(frame["end"] - frame["start"] for frame in self.frames)

    @property
    def bytes(self) -> int:
        return size_of(self.collection) + size_of(self.before) + sum(map(size_of, self.frames))


def reused_loop(step: str, generation: int, log: Iterable[Event], *, sequential: bool = False) -> ReusedLoop | None:
    """Of a run of a loop, or one that was still to begin; None if none of its items is done, or if it claims them.
    `sequential`: whether it is, if that is not in the log, since it was not opened."""
    events = [event for event in log if (event.step, event.generation) == (step, generation)]
    # one that has not been opened may have been taken over from another execution itself
    begun = {event.type: event for event in events if event.type in (e.LOOP_OPENED, e.LOOP_REUSED)}
    opened = begun.get(e.LOOP_OPENED) or begun.get(e.LOOP_REUSED)
    if opened is None or "cursor" in opened.payload:
        return None
    sequential = opened.payload.get("mode", "sequential" if sequential else "parallel") == "sequential"
    frames: list[dict[str, Any]] = []
    commands: set[str] = set()
    suspended = _suspended(events)
    for event in events:
        if event.type not in e.FRAMES or e.IGNORED in event.payload:
            continue
        command = None if event.command_id is None else without_attempt(event.command_id)
        reports = [*suspended.get(command or "", ()), event.payload]
        if not (done := list(_done(event.payload, has_set=any(map(_has_set, reports))))):
            continue
        frames += done
        if command is not None:
            commands.add(command)
        if not sequential and (items := _set_by(reports)):
            done[-1][e.SET_BY] = items
    if not frames:
        return None
    collection: dict[str, Any] = {
        name: opened.payload[name] for name in ("count", "data", "ref") if name in opened.payload
    }
    frames.sort(key=lambda frame: int(frame["start"]))
    return ReusedLoop(
        step=step,
        generation=generation,
        sequential=sequential,
        collection=collection,
        frames=_merged(frames),
        commands=frozenset(commands),
        seq=opened.seq,
        before={**begun[e.LOOP_REUSED].payload.get("before", {})} if e.LOOP_REUSED in begun else {},
    )


def lost_items(step: str, generation: int, loop: ReusedLoop | None, log: Iterable[Event]) -> int:
    """How many items of the run have ended well and begin again all the same; of a cursor, its rows that did."""
    done: int = sum(
        event.payload["ok"]
        for event in log
        if (event.step, event.generation) == (step, generation)
        and event.type in e.FRAMES
        and e.IGNORED not in event.payload
    )
    return done - (0 if loop is None else loop.done)


def why_anew(loop: ReusedLoop, before: Loop, now: Loop, changed: Mapping[str, Set[str]]) -> str | None:
    """Why it does not go on with what is left of it, but begins anew; None if it goes on. `before` is what ran;
    `changed`: the names that the restart changes in `workload` and `ctx`."""
    if (before.items, before.mode) != (now.items, now.mode):
        return "its loop has another `in` or `mode` now"
    if _is_touched(now.items.reads, changed):
        return "its `in` reads what is changed"
    if len(loop.frames) > MAX_FRAMES or loop.bytes > LOOP_BYTES:
        return "the results of those that are done are too many to be taken over"
    return None


def has_other_items(before: Loop, now: Loop, changed: Mapping[str, Set[str]]) -> bool:
    """Whether a loop that begins anew may have another collection than before; else all its items run again."""
    return before.items != now.items or _is_touched(now.items.reads, changed)


def _is_touched(reads: Mapping[str, Set[str] | None], changed: Mapping[str, Set[str]]) -> bool:
    """Whether what is changed may be among what is read."""
    either = changed["workload"] | changed["ctx"]
    for root, names in reads.items():
        touched = changed.get(root, either & {root})
        if touched if names is None or root not in changed else touched & names:
            return True
    return False


def _done(report: Mapping[str, Any], *, has_set: bool) -> Iterator[dict[str, Any]]:
    """The ranges of a frame's items that ended well, as far as that can be told of each."""
    start, end, failed = report["start"], report["end"], report["failed"]
    if start == end:
        return
    if not failed:
        kept = {name: report[name] for name in KEPT if report.get(name) is not None}
        yield {"start": start, "end": end, "ok": end - start, "failed": 0, **kept}
        return
    errors = report.get("errors") or {}
    if report.get("ref") is not None or len(errors) != failed or has_set:
        return
    for index in range(start, end):
        if str(index) not in errors:
            data = [report["data"][index - start]]
            kept = {"data": data, "bytes": size_of(data), "item_ms": report.get("item_ms")}
            yield {"start": index, "end": index + 1, "ok": 1, "failed": 0, **kept}


def _suspended(events: Iterable[Event]) -> dict[str, list[Mapping[str, Any]]]:
    """Command -> its reports from before it went on, when it was suspended."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        is_suspended = event.type in (e.CALL_DEFERRED, e.CALL_PARKED) and e.IGNORED not in event.payload
        if is_suspended and event.command_id is not None:
            found.setdefault(without_attempt(event.command_id), []).append(event.payload)
    return found


def _has_set(report: Mapping[str, Any]) -> bool:
    return bool(report.get("set") or report.get(e.SET_REFS))


def _set_by(reports: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Name -> the last of its items that has set it."""
    found: dict[str, int] = {}
    for report in reports:
        for name, index in (report.get(e.SET_BY) or {}).items():
            found[name] = max(index, found.get(name, 0))
    return found


def _merged(frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Few instead of many that follow one another, as long as their results stay in the log."""
    found: list[dict[str, Any]] = []
    for frame in frames:
        last = found[-1] if found else None
        if last is not None and _may_merge(last, frame):
            ends = {"end": frame["end"], "ok": last["ok"] + frame["ok"], "data": [*last["data"], *frame["data"]]}
            found[-1] = {**last, **ends, "bytes": last["bytes"] + frame["bytes"]}
        else:
            found.append(frame)
    return found


def _may_merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one["end"] != other["start"] or e.SET_BY in one or e.SET_BY in other:
        return False
    inline = all("data" in frame and "bytes" in frame for frame in (one, other))
    return inline and one["bytes"] + other["bytes"] <= INLINE_BYTES
