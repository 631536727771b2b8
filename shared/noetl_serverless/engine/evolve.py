"""`evolve(state, event) -> state`: total, and independent of the playbook; all it needs is in the event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..limits import ANSWERED_APPROVALS, LOOP_INLINE_BYTES, SIGNAL_IDS, VARIABLE_IDS
from . import events as e
from .budget import record_spent
from .events import Event
from .state import (
    CALLBACK,
    Command,
    Compensable,
    Compensating,
    Cursor,
    Loop,
    Paused,
    Signal,
    State,
    Suspended,
    Token,
    Wait,
    split_token_key,
    takes,
    token_key,
)
from .variables import Variable, after_pause, unexpired, with_values, without


def evolve(state: State, event: Event) -> State:
    """The state after `event`; the given one is not changed."""
    next_state = state.copy()
    apply(next_state, event)
    return next_state


def apply(state: State, event: Event) -> None:
    """Fold `event` into `state` in place: for a state that its caller owns."""
    if event.seq > state.seq:
        state.seq = event.seq
    # an event that comes too late for an ended execution stays in the log and changes nothing
    if state.ended and not (state.quarantined and event.type in (e.RETRIED, e.CANCELLED)):
        return
    if state.next_expiry is not None and event.at >= state.next_expiry and state.paused is None:
        state.keep_variables(unexpired(state.variables, event.at))
    if e.IGNORED in event.payload:
        return
    for route in event.payload.get("routes", ()):
        apply_route(state, route, event.at)
    APPLY[event.type](state, event)


def apply_route(state: State, route: dict[str, Any], at: int) -> None:
    """A step has ended: remove its token, apply its `set`, and add an arrival to the steps its arcs lead to."""
    step: str = route["step"]
    key = token_key(step, route["generation"])
    state.tokens.pop(key, None)
    if state.timers:
        state.timers.pop(e.step_deadline(key), None)
    state.assign(route.get("set", {}), route.get(e.SET_REFS, {}), at, step)
    if route.get("unmatched") and step in state.outcomes:
        state.outcomes[step] = {**state.outcomes[step], "unmatched": True}
    if (noted := route.get("compensable")) is not None:
        outcome = state.outcomes[step] if noted is True else noted
        state.compensable = (*state.compensable, Compensable(step, route["generation"], outcome))
    if (compensated := route.get("compensated")) is not None:
        _compensated(state, compensated)
    arcs = route.get("arcs", ())
    for target in arcs:
        sources = state.waiting.setdefault(target, [])
        if step not in sources:
            sources.append(step)
    if not arcs and state.compensating is None:
        state.last = step


def _compensated(state: State, how: Any) -> None:
    """The last of the runs has been undone, or could not be."""
    assert state.compensating is not None
    *rest, last = state.compensable
    state.compensable = tuple(rest)
    before = state.compensating
    if how is True:
        state.compensating = replace(before, done=(*before.done, last.step))
    else:
        state.compensating = replace(before, failed=(*before.failed, {"step": last.step, **how["error"]}))


def _started(state: State, event: Event) -> None:
    payload = event.payload
    state.status = "running"
    state.depth = payload.get("depth", 0)
    state.parent = payload.get("parent")
    # a large one is stored beside the log, and is in the state already
    state.workload = payload.get("workload", state.workload)
    state.ctx = dict(payload.get("ctx", {}))
    state.budget = payload.get("budget")
    if (restart := payload.get(e.RESTART)) is not None:
        state.restart_of = restart["execution_id"]
    else:
        state.waiting[payload["entry"]] = []


def _reused(state: State, event: Event) -> None:
    assert event.step is not None
    state.outcomes[event.step] = event.payload["outcome"]
    if event.generation is not None:
        state.generations[event.step] = event.generation


def _loop_reused(state: State, event: Event) -> None:
    payload = event.payload
    items = {name: payload[name] for name in ("data", "ref") if name in payload}
    key = token_key(event.step or "", event.generation or 0)
    before = {"before": payload["before"]} if "before" in payload else {}
    state.reused[key] = {"count": payload["count"], "items": items, "frames": [], **before}


def _frame_reused(state: State, event: Event) -> None:
    key = token_key(event.step or "", event.generation or 0)
    loop = state.reused[key]
    state.reused[key] = {**loop, "frames": [*loop["frames"], event.payload]}


def _restarted(state: State, event: Event) -> None:
    payload = event.payload
    state.ctx, state.ctx_refs = dict(payload.get("ctx", {})), dict(payload.get(e.CTX_REFS, {}))
    state.waiting = {step: list(sources) for step, sources in payload["waiting"].items()}
    state.last = payload.get("last")
    state.compensable = tuple(
        Compensable(run["step"], run["generation"], run.get("outcome") or state.outcomes[run["step"]])
        for run in payload.get("compensable", ())
    )
    if variables := payload.get("variables"):
        state.keep_variables({name: Variable(**value) for name, value in variables.items()})
    state.signals = tuple(Signal(**signal) for signal in payload.get("signals", ()))


def _begin(state: State, step: str, generation: int, phase: Any) -> None:
    state.waiting.pop(step, None)
    state.generations[step] = generation
    state.tokens[token_key(step, generation)] = Token(step, generation, phase)


def _issued(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None and event.command_id is not None
    payload = event.payload
    kind = payload["kind"]
    key = token_key(event.step, event.generation)
    frame = tuple(payload["frame"]) if payload.get("frame") else None
    if kind == "frame":
        _take_frame(state, key, frame)  # type: ignore[arg-type]
    elif key in state.tokens:
        state.tokens[key] = replace(state.tokens[key], phase="running")
    else:
        _begin(state, event.step, event.generation, "opening" if kind == "open" else "running")
    for source, name in ((state.timers, payload.get("timer")), (state.children, payload.get("child"))):
        if name is not None:
            source.pop(name, None)
    state.commands[event.command_id] = Command(key, kind, payload["attempt"], frame)


def _take_frame(state: State, key: str, frame: tuple[int, int, int, int]) -> None:
    loop = state.loops[key]
    index, start, end, _ = frame
    if index < loop.frames:
        return  # a suspended frame that is resumed
    if loop.returned and loop.returned[0][0] == start:
        rest = ((end, loop.returned[0][1]),) if end < loop.returned[0][1] else ()
        state.loops[key] = replace(loop, frames=index + 1, returned=rest + loop.returned[1:])
    else:
        state.loops[key] = replace(loop, frames=index + 1, next=end)


def assign(state: State, event: Event) -> None:
    """Apply what tasks have set. Of the items of a parallel loop the one with the highest index wins, whatever order
    they are reported in. Any other report wins over what was reported before it: of a sequential loop, whatever its
    SET_BY says, of no loop, or in a log of an earlier release, without SET_BY."""
    payload = event.payload
    values, refs = payload.get("set", {}), payload.get(e.SET_REFS, {})
    key = token_key(event.step or "", event.generation or 0)
    loop = state.loops.get(key)
    if (items := payload.get(e.SET_BY)) and not (loop is not None and loop.sequential):
        earlier = state.writers.get(key, {})
        last = {name: index for name, index in items.items() if index >= earlier.get(name, 0)}
        values = {name: value for name, value in values.items() if name in last}
        refs = {name: ref for name, ref in refs.items() if name in last}
        state.writers[key] = {**earlier, **last}
    state.assign(values, refs, event.at, event.step)


def _finished(state: State, event: Event) -> None:
    command = state.commands.pop(event.command_id or "", None)
    if command is None:
        return
    record_spent(state, event)
    assign(state, event)
    if command.kind == "step" and event.step is not None and not _is_stale(state, event):
        state.outcomes[event.step] = outcome_of(event)


def outcome_of(event: Event) -> dict[str, Any]:
    """The envelope that steps and arcs see, without what the log keeps only for readers."""
    payload = event.payload
    status = "error" if event.type == e.CALL_ERROR or payload.get("status") == "error" else "ok"
    outcome: dict[str, Any] = {"status": status}
    for name in ("data", "ref", "error"):
        if payload.get(name) is not None:
            outcome[name] = payload[name]
    return outcome


def _frame_committed(state: State, event: Event) -> None:
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


def _deferred(state: State, event: Event) -> None:
    # the decision that follows sets the timer
    if event.command_id not in state.commands:
        return
    record_spent(state, event)
    assign(state, event)


def _timer_set(state: State, event: Event) -> None:
    if state.paused is not None:
        state.paused = state.paused.with_timer(event.payload["timer"], event.payload["due"], event.at)
    if event.payload["timer"] in state.waits:
        return
    if event.command_id is None:
        key = token_key(event.step or "", event.generation or 0)
        suspended = Suspended(key=key, kind="deadline", attempt=0, frame=None, resume=None)
    else:
        suspended = _suspend(state, event, "delayed")
    state.timers[event.payload["timer"]] = suspended


def _timer_fired(state: State, event: Event) -> None:
    """The decision that follows ends what other timers belong to, and them with it."""
    if event.payload["timer"] == e.DEADLINE:
        state.timers.pop(e.DEADLINE, None)


def _child_started(state: State, event: Event) -> None:
    state.children[event.payload["execution_id"]] = _suspend(state, event, "parked")


def _suspend(state: State, event: Event, phase: Any) -> Suspended:
    command = state.commands.pop(event.command_id or "")
    if command.kind != "frame":
        state.tokens[command.key] = replace(state.tokens[command.key], phase=phase)
    return Suspended(
        key=command.key,
        kind=command.kind,
        attempt=command.attempt,
        frame=command.frame,
        resume=event.payload.get("resume"),
        return_step=event.payload.get("return_step"),
    )


def _wait_started(state: State, event: Event) -> None:
    payload = event.payload
    suspended = _suspend(state, event, "parked")
    state.waits[payload["wait"]] = Wait(
        key=suspended.key,
        kind=suspended.kind,
        attempt=suspended.attempt,
        frame=suspended.frame,
        resume=suspended.resume,
        signal=payload.get("signal"),
        approval=payload.get("approval", False),
        callback=payload.get("callback", False),
        fixed=payload.get("fixed", False),
        resumes=payload["resumes"],
    )


def _paused(state: State, event: Event) -> None:
    timers = event.payload.get("timers", {})
    state.paused = Paused(event.at, {name: (due, event.at) for name, due in timers.items()})


def _resumed(state: State, event: Event) -> None:
    if state.paused is not None and state.next_expiry is not None:
        state.keep_variables(after_pause(state.variables, state.paused.at, event.at))
    state.paused = None


def _variables_set(state: State, event: Event) -> None:
    payload = event.payload
    given = (payload["variables"], event.at, payload["type"], payload.get("source_step"), payload.get("expires_at"))
    state.keep_variables(with_values(state.variables, *given))
    if (id := payload.get("id")) is not None:
        state.variable_ids = (*state.variable_ids[1 - VARIABLE_IDS :], id)


def _variables_deleted(state: State, event: Event) -> None:
    state.keep_variables(without(state.variables, frozenset(event.payload["names"])))


def _signal_received(state: State, event: Event) -> None:
    """It is kept until a wait takes it."""
    payload = event.payload
    state.signals = (*state.signals, Signal(payload["signal"], payload.get("data"), payload.get("by")))
    id: str | None = payload.get("id")
    by = payload.get("by") or {}
    if id is None:
        return
    if by.get("kind") == CALLBACK:
        state.callback_ids = {**state.callback_ids, by["name"]: id}
    else:
        state.signal_ids = (*state.signal_ids[1 - SIGNAL_IDS :], id)


def _wait_ended(state: State, event: Event) -> None:
    payload = event.payload
    wait = state.waits.pop(payload["wait"])
    take_signal(state, event, wait.approval)
    _count_ended(state, wait)
    if wait.approval and (name := payload.get("signal")) is not None:
        _answered(state, name, event)
    if not wait.resumes and not _is_stale(state, event):
        state.outcomes[split_token_key(wait.key)[0]] = outcome_of(event)


def _count_ended(state: State, *waits: Wait) -> None:
    """Callback URLs for them are over, however they have ended."""
    for wait in waits:
        if wait.callback and wait.signal is not None:
            state.ended_waits = {**state.ended_waits, wait.signal: state.ended_waits.get(wait.signal, 0) + 1}


def take_signal(state: State, event: Event, approval: bool) -> None:
    """The signal that has ended a wait, if one has, ends no other. `approval`: whether the wait was for one."""
    if (name := event.payload.get("signal")) is not None:
        taken = next(index for index, signal in enumerate(state.signals) if takes(name, approval, signal))
        state.signals = state.signals[:taken] + state.signals[taken + 1 :]


def _answered(state: State, name: str, event: Event) -> None:
    """When an approval was decided, and by whom, if that is known; of the last names only, since templates may give
    as many as they like."""
    by = event.payload["data"].get("by") or {}
    answer = {"at": event.at, **({"by": {"kind": by.get("kind"), "name": by.get("name")}} if by else {})}
    earlier = [(other, of) for other, of in state.answered.items() if other != name]
    state.answered = dict((*earlier[1 - ANSWERED_APPROVALS :], (name, answer)))


def _child_ended(state: State, event: Event) -> None:
    suspended = state.children.get(event.payload["execution_id"])
    if suspended is None or event.payload.get("resumes", True):
        return
    del state.children[event.payload["execution_id"]]
    if not _is_stale(state, event):
        state.outcomes[split_token_key(suspended.key)[0]] = outcome_of(event)


def _loop_opened(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None
    payload = event.payload
    key = token_key(event.step, event.generation)
    # without it, every frame of the loop has its own
    phase: Any = "sharing" if "ctx" in payload.get("scope", {}) else "looping"
    if key in state.tokens:
        state.tokens[key] = replace(state.tokens[key], phase=phase)
    else:
        _begin(state, event.step, event.generation, phase)
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


def _loop_done(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None
    key = token_key(event.step, event.generation)
    loop = state.loops.pop(key, None) or unopened(state, key)
    if loop is not None and key in state.cursors:
        loop = claimed(loop)
        del state.cursors[key]
    state.writers.pop(key, None)
    state.reused.pop(key, None)
    if key not in state.tokens:
        _begin(state, event.step, event.generation, "looping")
    if not _is_stale(state, event):
        state.outcomes[event.step] = loop_outcome(state.execution_id, key, event.payload, loop)


def claimed(loop: Loop) -> Loop:
    """The loop over a cursor at its end, whose items are those that were claimed."""
    return replace(loop, count=loop.ok + loop.failed)


def _is_stale(state: State, event: Event) -> bool:
    """Whether a later run of its step has already ended: of two runs under way, the older one may end last."""
    latest = state.generations.get(event.step or "", 0)
    return (event.generation or 0) < latest and token_key(event.step or "", latest) not in state.tokens


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


def _step_skipped(state: State, event: Event) -> None:
    assert event.step is not None
    state.waiting.pop(event.step, None)
    state.outcomes[event.step] = {"status": "skipped"}
    if event.generation is not None:
        state.generations[event.step] = event.generation
        state.reused.pop(token_key(event.step, event.generation), None)


def _step_timed_out(state: State, event: Event) -> None:
    """Nothing of this run of the step is under way any more. A loop keeps its counts, and ends with its own event."""
    assert event.step is not None
    key = token_key(event.step, event.generation or 0)
    _count_ended(state, *(wait for wait in state.waits.values() if wait.key == key))
    for outstanding in (state.commands, state.timers, state.children, state.waits):
        for name in [name for name, item in outstanding.items() if item.key == key]:
            del outstanding[name]
    if not _is_stale(state, event):
        state.outcomes[event.step] = {"status": "error", "error": event.payload["error"]}


def _step_stopped(state: State, event: Event) -> None:
    """Nothing of this run of the step is under way any more or, with a command or a child, this item of its loop."""
    if event.command_id is not None:
        del state.commands[event.command_id]
    elif (child := event.payload.get("child")) is not None:
        del state.children[child]
    else:
        _step_timed_out(state, event)


def _compensation_started(state: State, event: Event) -> None:
    """Only the runs of steps go on that are named; nothing waits for a join, a time or a signal. Their time limits
    hold, and that of the execution for the sub-playbooks among them."""
    kept = frozenset(event.payload["kept"])
    state.compensating = Compensating(event.payload["error"], event.step)
    state.compensable = (*state.compensable, *(Compensable(**entry) for entry in event.payload["partly"]))
    _count_ended(state, *state.waits.values())
    for container in (state.waiting, state.waits, state.reused):
        container.clear()
    left = [name for name, child in state.children.items() if child.key not in kept]
    for name in left:
        del state.children[name]
    if state.paused is not None:
        state.paused = replace(state.paused, left=(*state.paused.left, *left))
    limits = {e.step_deadline(key) for key in kept} | ({e.DEADLINE} if state.children else set())
    for name in state.timers.keys() - limits:
        del state.timers[name]
    for by_key in (state.tokens, state.loops, state.cursors, state.writers):
        for key in by_key.keys() - kept:
            del by_key[key]
    for name in [name for name, command in state.commands.items() if command.key not in kept]:
        del state.commands[name]


def _routes_only(state: State, event: Event) -> None:
    """An event that carries only routes."""


def _ended(state: State, event: Event) -> None:
    state.status = {e.COMPLETED: "completed", e.FAILED: "failed", e.CANCELLED: "cancelled"}[event.type]  # type: ignore[assignment]
    state.error = event.payload.get("error")
    if e.QUARANTINED in event.payload:
        # it may be retried
        return
    under_way = (state.tokens, state.waiting, state.commands, state.timers, state.children, state.waits)
    for container in (*under_way, state.loops, state.writers, state.cursors, state.reused):
        container.clear()
    state.signals = ()
    state.signal_ids = ()
    state.callback_ids = {}
    state.ended_waits = {}
    state.answered = {}
    state.variable_ids = ()
    _resumed(state, event)
    state.compensable = ()
    state.compensating = None


def _retried(state: State, event: Event) -> None:
    state.status, state.error = "running", None


def _unchanged(state: State, event: Event) -> None:
    """A fact that changes nothing by itself; its decisions may."""


APPLY: dict[str, Callable[[State, Event], None]] = {
    e.STARTED: _started,
    e.CALL_DONE: _finished,
    e.CALL_ERROR: _finished,
    e.CALL_DEFERRED: _deferred,
    e.CALL_PARKED: _deferred,
    e.FRAME_COMMITTED: _frame_committed,
    e.TIMER_FIRED: _timer_fired,
    e.CHILD_ENDED: _child_ended,
    e.SIGNAL_RECEIVED: _signal_received,
    e.VARIABLES_SET: _variables_set,
    e.VARIABLES_DELETED: _variables_deleted,
    e.PAUSED: _paused,
    e.RESUMED: _resumed,
    e.CANCELLED: _ended,
    e.PARENT_FAILED: _routes_only,
    e.RETRIED: _retried,
    e.DROPPED: _unchanged,
    e.REUSED: _reused,
    e.LOOP_REUSED: _loop_reused,
    e.FRAME_REUSED: _frame_reused,
    e.RESTARTED: _restarted,
    e.ISSUED: _issued,
    e.STEP_EXIT: _routes_only,
    e.STEP_SKIPPED: _step_skipped,
    e.STEP_TIMED_OUT: _step_timed_out,
    e.LOOP_OPENED: _loop_opened,
    e.LOOP_DONE: _loop_done,
    e.TIMER_SET: _timer_set,
    e.CHILD_STARTED: _child_started,
    e.WAIT_STARTED: _wait_started,
    e.WAIT_ENDED: _wait_ended,
    e.COMPENSATION_STARTED: _compensation_started,
    e.STEP_STOPPED: _step_stopped,
    e.COMPLETED: _ended,
    e.FAILED: _ended,
}
