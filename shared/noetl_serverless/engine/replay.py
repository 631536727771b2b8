"""Rebuild an execution from its log alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .events import Event
from .evolve import apply
from .state import State


def logical_order(events: Iterable[Event]) -> list[Event]:
    """Each fact followed by its decisions, facts by seq: the order in which the decisions were made."""
    return sorted(events, key=lambda event: (event.cause or event.seq, event.seq))


def fold(execution_id: str, events: Iterable[Event], workload: Mapping[str, Any] | None = None) -> State:
    """The state after all of `events`; `workload` is for an execution whose log was too small to hold it."""
    state = State(execution_id, workload=workload or {})
    for event in logical_order(events):
        apply(state, event)
    return state
