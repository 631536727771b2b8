"""`evolve(state, event) -> state`: total, and independent of the playbook; all it needs is in the event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..limits import VARIABLE_IDS
from . import events as e
from .events import Event
from .evolve_ends import compensation_started, ended, resumed, step_stopped, step_timed_out
from .evolve_loops import frame_committed, frame_reused, loop_done, loop_opened, loop_reused
from .evolve_steps import child_ended, child_started, deferred, finished, issued, step_skipped, timer_fired, timer_set
from .evolve_waits import signal_received, wait_ended, wait_started
from .state import Compensable, Paused, Signal, State, token_key
from .variables import Variable, unexpired, with_values, without


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
    state.answered = {
        name: {part: answer[part] for part in ("at", "by") if part in answer}
        for name, answer in payload.get("answered", {}).items()
    }


def _paused(state: State, event: Event) -> None:
    timers = event.payload.get("timers", {})
    state.paused = Paused(event.at, {name: (due, event.at) for name, due in timers.items()})


def _variables_set(state: State, event: Event) -> None:
    payload = event.payload
    given = (payload["variables"], event.at, payload["type"], payload.get("source_step"), payload.get("expires_at"))
    state.keep_variables(with_values(state.variables, *given))
    if (id := payload.get("id")) is not None:
        state.variable_ids = (*state.variable_ids[1 - VARIABLE_IDS :], id)


def _variables_deleted(state: State, event: Event) -> None:
    state.keep_variables(without(state.variables, frozenset(event.payload["names"])))


def _retried(state: State, event: Event) -> None:
    state.status, state.error = "running", None


def _routes_only(state: State, event: Event) -> None:
    """An event that carries only routes."""


def _unchanged(state: State, event: Event) -> None:
    """A fact that changes nothing by itself; its decisions may."""


APPLY: dict[str, Callable[[State, Event], None]] = {
    e.STARTED: _started,
    e.CALL_DONE: finished,
    e.CALL_ERROR: finished,
    e.CALL_DEFERRED: deferred,
    e.CALL_PARKED: deferred,
    e.FRAME_COMMITTED: frame_committed,
    e.TIMER_FIRED: timer_fired,
    e.CHILD_ENDED: child_ended,
    e.SIGNAL_RECEIVED: signal_received,
    e.VARIABLES_SET: _variables_set,
    e.VARIABLES_DELETED: _variables_deleted,
    e.PAUSED: _paused,
    e.RESUMED: resumed,
    e.CANCELLED: ended,
    e.PARENT_FAILED: _routes_only,
    e.RETRIED: _retried,
    e.DROPPED: _unchanged,
    e.REUSED: _reused,
    e.LOOP_REUSED: loop_reused,
    e.FRAME_REUSED: frame_reused,
    e.RESTARTED: _restarted,
    e.ISSUED: issued,
    e.STEP_EXIT: _routes_only,
    e.STEP_SKIPPED: step_skipped,
    e.STEP_TIMED_OUT: step_timed_out,
    e.LOOP_OPENED: loop_opened,
    e.LOOP_DONE: loop_done,
    e.TIMER_SET: timer_set,
    e.CHILD_STARTED: child_started,
    e.WAIT_STARTED: wait_started,
    e.WAIT_ENDED: wait_ended,
    e.COMPENSATION_STARTED: compensation_started,
    e.STEP_STOPPED: step_stopped,
    e.COMPLETED: ended,
    e.FAILED: ended,
}
