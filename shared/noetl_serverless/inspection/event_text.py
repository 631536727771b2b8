"""Events in words: one line for each event that changes the status of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import token_key
from ..plurals import counted
from .quarantine_periods import EffectiveTimes
from .runs import CommandRun, run_of, started_at

# a loop with more finished frames has one line for all of them
MAX_SHOWN = 5


def event_texts(run: Sequence[Event], effects: EffectiveTimes) -> list[dict[str, Any]]:
    """{seq, at, event, step, text} of each event of one run of a step that has a text; `at` is when it took effect. An
    event that was kept in quarantine also has {kept_since}: when it came.

    A command's report also has {queued_ms, run_ms, waited_ms}, as far as they are known, and {attempts,
    attempts_dropped, lost} if an attempt failed, {stdout} if code has printed, and {code_error: {exception, traceback,
    line}} if it has failed.
    """
    frames = [event for event in run if event.type == e.FRAME_COMMITTED]
    issued: dict[str | None, Event] = {}
    # the signals that waits are for, by the name of their timer
    signals = {event.payload["wait"]: event.payload.get("signal") for event in run if event.type == e.WAIT_STARTED}
    found = []
    for event in run:
        entry: dict[str, Any] = {"seq": event.seq, "at": effects.at(event), "event": event.type, "step": event.step}
        if effects.was_kept(event):
            entry["kept_since"] = event.at
        if event.type == e.ISSUED:
            issued[event.command_id] = event
        report = _report(event, issued.get(event.command_id), effects)
        text = _text(event, frames, report)
        if event.type == e.TIMER_FIRED and event.payload["timer"] in signals:
            text = _wait_is_over(signals[event.payload["timer"]])
        if text is None and event.type == e.FRAME_COMMITTED and report.failed:
            text = _ended_well(event)
        if text is not None:
            fields = {**_run_fields(report), **_printed(event), **_code_error(event)} if event.type in e.REPORTS else {}
            found.append({**entry, "text": text, **fields})
    return found


def _report(event: Event, order: Event | None, effects: EffectiveTimes) -> CommandRun:
    meta = event.payload.get("meta")
    return run_of(meta, event.at, None if order is None else effects.queued_since(order, started_at(meta)))


def _run_fields(run: CommandRun) -> dict[str, Any]:
    times = {name: getattr(run, name) for name in ("queued_ms", "run_ms")}
    known = {name: value for name, value in times.items() if value is not None}
    if run.waited_ms:
        known["waited_ms"] = run.waited_ms
    if not run.failed:
        return known
    return {**known, "attempts": run.attempts, "attempts_dropped": run.attempts_dropped, "lost": run.lost}


def _printed(event: Event) -> dict[str, str]:
    """What the code of the step has printed, as far as it was kept."""
    printed = (event.payload.get("meta") or {}).get("stdout")
    return {"stdout": printed} if isinstance(printed, str) and printed else {}


def _code_error(event: Event) -> dict[str, Any]:
    """What Python code has failed with."""
    found = (event.payload.get("extra") or {}).get("py")
    return {"code_error": found} if event.type == e.CALL_ERROR and isinstance(found, Mapping) else {}


def _text(event: Event, frames: Sequence[Event], run: CommandRun) -> str | None:
    payload = event.payload
    match event.type:
        case e.ISSUED:
            return _issued(event)
        case e.CALL_DONE:
            return f"{event.command_id} succeeds{_meta(payload, run)}"
        case e.CALL_ERROR:
            return f"{event.command_id} fails: {error_text(payload.get('error'))}{_meta(payload, run)}"
        case e.CALL_DEFERRED:
            at = (payload.get("resume") or {}).get("attempt")
            again = f", with attempt {at}" if isinstance(at, int) and at > 1 else ""
            return f"{event.command_id} continues in {payload['delay']:g} s{again}"
        case e.TIMER_SET if event.command_id is None:
            whose = "the execution" if payload["timer"] == e.DEADLINE else "the step"
            return f"{whose} has {payload['timeout']:g} s"
        case e.TIMER_FIRED:
            return _fired(event)
        case e.CHILD_STARTED:
            return (
                f"starts {payload.get('path')} version {payload.get('version')} as execution {payload['execution_id']}"
            )
        case e.CHILD_ENDED:
            error = f": {error_text(payload['error'])}" if payload.get("error") else ""
            return f"execution {payload['execution_id']} ended with status {payload.get('status')}{error}"
        case e.LOOP_OPENED:
            items = "what it claims" if "cursor" in payload else counted(payload["count"], "item")
            return f"opens a loop of {items}, {_width(payload)}"
        case e.FRAME_COMMITTED:
            return _frame(event, frames)
        case e.LOOP_DONE:
            error = f": {error_text(payload['error'])}" if payload.get("error") else ""
            return f"the loop ends with status {payload['status']}{error}"
        case e.REUSED:
            of = payload["of"]
            return f"its result is reused: it ended at event {of['seq']} of execution {of['execution_id']}"
        case e.LOOP_REUSED:
            done = f"{payload['done']} of {counted(payload['count'], 'item')}"
            return f"goes on with the loop of execution {payload['of']['execution_id']}, where {done} are done"
        case e.STEP_SKIPPED:
            return f"is skipped: {payload.get('reason')}"
        case e.WAIT_STARTED:
            return _wait(payload)
        case e.WAIT_ENDED:
            error = f": {error_text(payload['error'])}" if payload.get("error") else ""
            by = f"the signal '{payload['signal']}' has come" if "signal" in payload else "the wait is over"
            return f"{by}{error}"
        case e.COMPENSATION_STARTED:
            return "the execution is to fail; what has been done is undone first"
        case e.PARENT_FAILED:
            return f"{payload['reason']}: it fails, too"
        case e.STEP_STOPPED if e.stops_item(event):
            return f"{event.command_id or payload['child']} does not go on: {error_text(payload['error'])}"
        case e.STEP_STOPPED | e.STEP_TIMED_OUT:
            return f"ends, with all that is under way of it: {error_text(payload['error'])}"
    return None


def pause_text(event: Event) -> str | None:
    """Of an event that pauses the execution, or lets it go on."""
    if event.type not in (e.PAUSED, e.RESUMED) or e.IGNORED in event.payload:
        return None
    if event.type == e.RESUMED:
        return "the execution goes on"
    because = f" because: {event.payload['reason']}" if event.payload.get("reason") else ""
    return f"the execution is paused{because}"


def _wait(payload: Mapping[str, Any]) -> str:
    name = payload.get("signal")
    if name is None:
        return "waits until its time has come"
    what = "approval" if payload.get("approval") else "signal"
    limit = f", for {payload['timeout']:g} s at most" if "timeout" in payload else ""
    return f"waits for the {what} '{name}'{limit}"


def _fired(event: Event) -> str:
    timer = event.payload["timer"]
    if timer == e.DEADLINE:
        return "the time of the execution is over"
    of_step = timer == e.step_deadline(token_key(event.step or "", event.generation or 0))
    return "the time of the step is over" if of_step else "the delay has expired"


def _wait_is_over(signal: str | None) -> str:
    return "its time has come" if signal is None else f"the time for '{signal}' is over"


def code_line(payload: Mapping[str, Any]) -> str:
    """A phrase about the line of the Python code that failed, if one is known."""
    found = (payload.get("extra") or {}).get("py")
    line = found.get("line") if isinstance(found, Mapping) else None
    return f", in line {line} of the code" if line else ""


def error_text(error: Any) -> str:
    if not isinstance(error, Mapping):
        return "no reason given"
    line = error.get("at") or error.get("line")
    column = f", column {error['column']}" if error.get("column") and line == error.get("line") else ""
    place = f" (line {line}{column})" if line else ""
    # of an arc that was to say what happens after the failure
    after = f"; and then {error_text(error['routing'])}" if error.get("routing") else ""
    return f"{error.get('code')}: {error.get('message')}{place}{after}"


def _issued(event: Event) -> str | None:
    payload = event.payload
    if payload["kind"] == "frame" and payload["attempt"] == 1:
        return None
    source = "timer" if "timer" in payload else "sub-playbook" if "child" in payload else None
    again = f" again, after its {source}" if source else ""
    what = " to render its collection" if payload["kind"] == "open" else ""
    return f"{event.command_id} is queued{again}{what}"


def _frame(event: Event, frames: Sequence[Event]) -> str | None:
    payload = event.payload
    if not payload.get("failed"):
        if len(frames) > MAX_SHOWN and frames[-1] is not event:
            return None
        done = sum(frame.payload["ok"] for frame in frames)
        return f"{done} items succeed" if len(frames) > MAX_SHOWN else _ended_well(event)
    first = error_text(payload.get("error"))
    if payload["end"] - payload["start"] == 1:
        return f"item {payload['start']} fails: {first}"
    return f"{payload['failed']} of the items {payload['start']} to {payload['end'] - 1} fail; the first: {first}"


def _ended_well(event: Event) -> str:
    start, last = event.payload["start"], event.payload["end"] - 1
    return f"item {start} succeeds" if start == last else f"items {start} to {last} succeed"


def _width(payload: Mapping[str, Any]) -> str:
    return "one at a time" if payload["mode"] == "sequential" else f"{payload['max_in_flight']} at a time"


def _meta(payload: Mapping[str, Any], run: CommandRun) -> str:
    meta = payload.get("meta") or {}
    parts = []
    if run.queued_ms is not None:
        parts.append(f"queued for {run.queued_ms / 1000:.3f} s")
    if run.run_ms is not None:
        parts.append(f"ran for {run.run_ms / 1000:.3f} s")
    if run.waited_ms >= 0.5:
        parts.append(f"waited for {run.waited_ms / 1000:.3f} s in between")
    if isinstance(meta.get("attempt"), int) and meta["attempt"] > 1:
        parts.append(f"at attempt {meta['attempt']}")
    if meta.get("worker"):
        parts.append(f"on worker {meta['worker']}")
    return f" ({', '.join(parts)})" if parts else ""
