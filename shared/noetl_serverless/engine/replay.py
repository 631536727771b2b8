"""Rebuild an execution from its log alone."""

from __future__ import annotations

from collections.abc import Iterable

from .evolve import apply
from .events import Event
from .state import State


def logical_order(events: Iterable[Event]) -> list[Event]:
    """Each fact followed by its decisions, facts by seq: the order in which the decisions were made."""
    return sorted(events, key=lambda event: (event.cause or event.seq, event.seq))


def fold(execution_id: str, events: Iterable[Event]) -> State:
    """The state after all of `events`; those of undecided facts included."""
    state = State(execution_id)
    for event in logical_order(events):
        apply(state, event)
    return state
