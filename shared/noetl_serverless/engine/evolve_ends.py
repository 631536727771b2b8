"""What ends without an outcome of its own, with all that is under way of it: a step, what compensation leaves, and
the execution."""

from __future__ import annotations

from dataclasses import replace

from . import events as e
from .events import Event
from .evolve_steps import is_stale
from .evolve_waits import count_ended
from .state import Compensable, Compensating, State, token_key
from .variables import after_pause


def step_timed_out(state: State, event: Event) -> None:
    """Nothing of this run of the step is under way any more. A loop keeps its counts, and ends with its own event."""
    assert event.step is not None
    key = token_key(event.step, event.generation or 0)
    count_ended(state, *(wait for wait in state.waits.values() if wait.key == key))
    for outstanding in (state.commands, state.timers, state.children, state.waits):
        for name in [name for name, item in outstanding.items() if item.key == key]:
            del outstanding[name]
    if not is_stale(state, event):
        state.outcomes[event.step] = {"status": "error", "error": event.payload["error"]}


def step_stopped(state: State, event: Event) -> None:
    """Nothing of this run of the step is under way any more or, with a command or a child, this item of its loop."""
    if event.command_id is not None:
        del state.commands[event.command_id]
    elif (child := event.payload.get("child")) is not None:
        del state.children[child]
    else:
        step_timed_out(state, event)


def compensation_started(state: State, event: Event) -> None:
    """Only the runs of steps go on that are named; nothing waits for a join, a time or a signal. Their time limits
    hold, and that of the execution for the sub-playbooks among them."""
    kept = frozenset(event.payload["kept"])
    state.compensating = Compensating(event.payload["error"], event.step)
    state.compensable = (*state.compensable, *(Compensable(**entry) for entry in event.payload["partly"]))
    count_ended(state, *state.waits.values())
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


def ended(state: State, event: Event) -> None:
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
    resumed(state, event)
    state.compensable = ()
    state.compensating = None


def resumed(state: State, event: Event) -> None:
    if state.paused is not None and state.next_expiry is not None:
        state.keep_variables(after_pause(state.variables, state.paused.at, event.at))
    state.paused = None
