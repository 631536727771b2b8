"""An execution as it is loaded, made of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.replay import logical_order
from ..engine.state import State
from ..engine.upcast import STATES, UPCASTERS, NewerSchema


@dataclass(frozen=True, slots=True)
class Case:
    """An execution as loaded: who it is, how it stands, and how far its log has come."""

    execution_id: str
    catalog_id: str
    path: str
    version: int
    plan_hash: str
    parent: dict[str, Any] | None
    depth: int
    # the last seq of the log, and that of the state as it is stored
    head: int
    snapshot: int
    state: State
    # who or what started it
    principal: dict[str, Any] | None = None
    # why its state could not be made of what is stored: `state` then says no more than who it is
    broken: Exception | None = None

    @property
    def newer(self) -> bool:
        """Whether a newer release has written what this one cannot read: it is left to that one."""
        return isinstance(self.broken, NewerSchema)

    def after(self, state: State, head: int, snapshot: int) -> Case:
        """The same execution, further on."""
        return Case(
            self.execution_id,
            self.catalog_id,
            self.path,
            self.version,
            self.plan_hash,
            self.parent,
            self.depth,
            head,
            snapshot,
            state,
            self.principal,
            self.broken,
        )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An execution that could not be decided about; `facts` as `Part.quarantined` has them, none of them in a list."""

    execution_id: str
    path: str
    version: int
    seq: int
    at: datetime
    error: dict[str, Any]
    fact_count: int
    facts: list[dict[str, Any]] = field(default_factory=list)


def case_of(row: Sequence[Any]) -> Case:
    id, catalog_id, path, version, plan_hash, parent, depth, head, folded, kept, form, principal, workload, newer = row
    events, broken = [_as_written(item) for item in newer or ()], None
    try:
        state = STATES.restore(kept, form, workload)
        for event in logical_order([UPCASTERS.current(event) for event in events]):
            apply(state, event)
    except Exception as error:
        state, broken = unread(id, head, workload, kept, events), error
    return Case(id, catalog_id, path, version, plan_hash, parent, depth, head, folded, state, principal, broken)


def unread(execution_id: str, head: int, workload: dict[str, Any], snapshot: Any, events: Sequence[Event]) -> State:
    """In place of a state that cannot be made of `snapshot` and `events`: who it is, and whether it has ended."""
    state = State(execution_id, seq=head, status="running", workload=workload)
    if isinstance(snapshot, dict) and snapshot.get("status") in ("completed", "failed", "cancelled"):
        state.status, state.error = snapshot["status"], snapshot.get("error")
    for event in events:
        if event.type in (e.COMPLETED, e.FAILED, e.CANCELLED, e.RETRIED):
            # nothing else of it is looked at: it may be what cannot be read
            told = {name: event.payload[name] for name in ("error", e.QUARANTINED) if name in event.payload}
            apply(state, replace(event, payload=told))
    state.seq = head
    return state


def event_of(row: Sequence[Any]) -> Event:
    """Raises NewerSchema."""
    return UPCASTERS.current(_as_written(row))


def _as_written(row: Sequence[Any]) -> Event:
    _, seq, cause, kind, step, generation, command, at, payload = row
    return Event(kind, int(at), seq, cause, step, generation, command, payload)


def as_kept(fact: Event) -> dict[str, Any]:
    """A fact as quarantine keeps it; `noetl.commit` makes the same of what is in the inbox."""
    return {
        "type": fact.type,
        "step": fact.step,
        "generation": fact.generation,
        "command": fact.command_id,
        "at": fact.at,
        "payload": fact.payload,
    }


@dataclass(frozen=True, slots=True)
class Inbox:
    """The first facts that have no place in the log yet, each with what `Part.taken` names it by; `more`: whether
    others wait behind them."""

    facts: list[tuple[int, Event]]
    more: bool = False


def inbox_of(rows: Sequence[Sequence[Any]]) -> Inbox:
    facts = [
        (inbox_id, Event(kind, int(at), 0, None, step, generation, command, payload))
        for inbox_id, kind, step, generation, command, at, payload, _ in rows
    ]
    return Inbox(facts, bool(rows) and rows[-1][-1])
