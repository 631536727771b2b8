"""Makes a LoadedExecution, an Inbox and events from their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.replay import logical_order
from ..engine.state import State
from ..engine.upcast import STATES, UPCASTERS
from ..records import Inbox, LoadedExecution


def execution_of(row: Sequence[Any]) -> LoadedExecution:
    id, catalog_id, path, version, plan_hash, parent, depth, head, folded, kept, form, principal, workload, newer = row
    events, broken = [_as_written(item) for item in newer or ()], None
    try:
        state = STATES.restore(kept, form, workload)
        for event in logical_order([UPCASTERS.current(event) for event in events]):
            apply(state, event)
    except Exception as error:
        state, broken = placeholder_state(id, head, workload, kept, events), error
    return LoadedExecution(
        execution_id=id,
        catalog_id=catalog_id,
        path=path,
        version=version,
        plan_hash=plan_hash,
        parent=parent,
        depth=depth,
        head=head,
        snapshot=folded,
        state=state,
        principal=principal,
        read_error=broken,
    )


def placeholder_state(
    execution_id: str, head: int, workload: dict[str, Any], snapshot: Any, events: Sequence[Event]
) -> State:
    """In place of a state that cannot be restored: only which execution it is, and whether it has ended."""
    state = State(execution_id, seq=head, status="running", workload=workload)
    if isinstance(snapshot, dict) and snapshot.get("status") in ("completed", "failed", "cancelled"):
        state.status, state.error = snapshot["status"], snapshot.get("error")
    for event in events:
        if event.type in (e.COMPLETED, e.FAILED, e.CANCELLED, e.RETRIED):
            # nothing else of the event is used: it may be what cannot be read
            kept_fields = {name: event.payload[name] for name in ("error", e.QUARANTINED) if name in event.payload}
            apply(state, replace(event, payload=kept_fields))
    return state


def event_of(row: Sequence[Any]) -> Event:
    """Raises NewerSchema."""
    return UPCASTERS.current(_as_written(row))


def _as_written(row: Sequence[Any]) -> Event:
    _, seq, cause, kind, step, generation, command, at, payload = row
    return Event(
        kind, int(at), seq=seq, cause=cause, step=step, generation=generation, command_id=command, payload=payload
    )


def quarantined_fact(fact: Event) -> dict[str, Any]:
    """A fact as quarantine keeps it; `noetl.commit` makes the same from facts in the inbox."""
    return {
        "type": fact.type,
        "step": fact.step,
        "generation": fact.generation,
        "command": fact.command_id,
        "at": fact.at,
        "payload": fact.payload,
    }


def inbox_of(rows: Sequence[Sequence[Any]]) -> Inbox:
    facts = [
        (
            inbox_id,
            Event(kind, int(at), step=step, generation=generation, command_id=command, payload=payload),
        )
        for inbox_id, kind, step, generation, command, at, payload, _ in rows
    ]
    return Inbox(facts, bool(rows) and rows[-1][-1])
