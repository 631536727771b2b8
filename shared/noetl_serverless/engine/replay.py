"""Rebuild an execution from its log alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .events import Event
from .evolve import apply
from .state import State
from .upcast import UPCASTERS, Upcasters


def logical_order(events: Iterable[Event]) -> list[Event]:
    """Each fact followed by its decisions, facts by seq: the order in which the decisions were made."""
    return sorted(events, key=lambda event: (event.cause or event.seq, event.seq))


def fold(
    execution_id: str,
    events: Iterable[Event],
    workload: Mapping[str, Any] | None = None,
    upcasters: Upcasters = UPCASTERS,
) -> State:
    """The state after all of `events`; `workload` is for an execution whose workload was too large for its log."""
    state = State(execution_id, workload=workload or {})
    for event in logical_order(events):
        apply(state, upcasters.current(event))
    return state


def up_to(events: Iterable[Event], *, seq: int | None = None, at: int | None = None) -> list[Event]:
    """The log as it was when `seq` was its last event, or at the instant `at` (milliseconds since 1970).

    The clocks of functions differ, so order decides: the result is all events before the first fact later than `at`.
    """
    kept = sorted((event for event in events if seq is None or event.seq <= seq), key=lambda event: event.seq)
    if at is None:
        return kept
    later = next((event.seq for event in kept if event.cause is None and event.at > at), None)
    return kept if later is None else [event for event in kept if (event.cause or event.seq) < later]
