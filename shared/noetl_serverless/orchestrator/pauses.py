"""What the log needs to know when an execution is paused and goes on: when its timers are due.

The time of a paused execution stands still. When it goes on, every timer is due as much later as the pause has lasted,
or as has passed of it since the timer was set; except for the end of a wait until an instant, which stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import State


def due_times(rows: Mapping[str, int], events: Iterable[Event], state: State) -> dict[str, int]:
    """When the timers of `state` are due, in ms: `rows` are those of the store, `events` may have set more since."""
    set_since = {event.payload["timer"]: event.payload["due"] for event in events if event.type == e.TIMER_SET}
    return {name: due for name, due in {**rows, **set_since}.items() if state.has_timer(name)}


def later_due_times(state: State, at: int) -> dict[str, int]:
    """When the timers of a paused execution are due that goes on at the instant `at`, in ms."""
    assert state.paused is not None
    return {
        name: due + max(0, at - since)
        for name, (due, since) in state.paused.timers.items()
        if state.has_timer(name) and not (name in state.waits and state.waits[name].fixed)
    }


def with_timers(fact: Event, state: State, timers: Mapping[str, int]) -> Event:
    """A fact that pauses, or lets go on, as the log has it: the inbox of a sub-playbook does not know its timers."""
    payload: dict[str, Any] = dict(fact.payload)
    if fact.type == e.PAUSED:
        payload["timers"] = dict(timers)
    elif state.paused is not None:
        payload["timers"] = later_due_times(state, fact.at)
    return Event(fact.type, fact.at, payload=payload)
