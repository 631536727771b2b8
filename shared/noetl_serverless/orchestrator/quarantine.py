"""Takes executions out of quarantine: retried as they were, or dropped as they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..errors import Conflict
from ..playbook.plan import Plan
from ..ports import LockedExecution
from ..records import LoadedExecution
from ..store.projections import project, still_open
from .transition import Transition, child_end


def retry_transition(locked: LockedExecution, plan: Plan, at: int) -> Transition:
    """The transition that takes an execution out of quarantine and lets it continue. Its commands and timers are issued
    again, except those whose facts were kept: these facts return to its inbox. The ends of children that ended
    meanwhile are added to the inbox. Raises Conflict; everything that was kept then stays."""
    execution, row = locked.execution, locked.quarantined()
    if row is None or not execution.state.quarantined:
        raise Conflict(f"execution {execution.execution_id} is not in quarantine")
    if execution.read_error is not None:
        raise Conflict(f"the state of execution {execution.execution_id} still cannot be read: {execution.read_error}")
    transition = Transition(execution, plan)
    transition.apply(Event(e.RETRIED, at, payload={"seq": row.seq}))
    if transition.quarantine:
        raise Conflict(
            f"execution {execution.execution_id} still cannot continue: {transition.quarantine['error']['message']}"
        )
    closed = {_closed_by(fact) for fact in row.facts}
    issued = project(
        execution.execution_id,
        locked.issued(),
        plan.pool,
        execution.path,
        plan.weight,
        paused=execution.state.paused is not None,
    ).commands
    rows = still_open(issued, execution.state)
    transition.reissued = [row for row in rows if row["command"] not in closed]
    ended_children = {fact["payload"].get("execution_id") for fact in row.facts}
    transition.inbox_facts += [
        _child_end_fact(execution, child, at)
        for child in locked.ended_children()
        if child.execution_id not in ended_children
    ]
    return transition


def drop_transition(locked: LockedExecution, at: int, by: Mapping[str, Any] | None) -> Transition | None:
    """The transition that takes an execution out of quarantine and discards the kept facts. Its status and the time of
    its end stay as they are. None if it is not in quarantine."""
    row = locked.quarantined()
    if row is None:
        return None
    transition = Transition(locked.execution, None)
    transition.apply(Event(e.DROPPED, at, payload={"seq": row.seq, "by": dict(by) if by else None}))
    transition.ended_at_ms = round(row.at.timestamp() * 1000)
    # from their rows: a state that cannot be read does not list them
    reason = f"the parent execution {locked.execution.execution_id} was dropped from quarantine"
    transition.cancel_children(locked.running_children(), at, reason, undo=True)
    return transition


def _closed_by(fact: Mapping[str, Any]) -> Any:
    """The command or timer that the fact ends, if any: a kept fact may be malformed."""
    return fact["payload"].get("timer") if fact["type"] == e.TIMER_FIRED else fact["command"]


def _child_end_fact(execution: LoadedExecution, child: LoadedExecution, at: int) -> dict[str, Any]:
    """A child's end as a fact for the inbox: an execution in quarantine is not notified of it. Raises Conflict."""
    if child.read_error is not None:
        raise Conflict(f"the state of its child {child.execution_id} cannot be read: {child.read_error}")
    link = child.parent
    assert link is not None
    payload = {"execution_id": child.execution_id, "resumes": link["resumes"]}
    payload.update(child_end(child.state, link.get("return_step"), child.execution_id))
    names = {"id": execution.execution_id, "step": link["step"], "generation": link["generation"]}
    return {**names, "type": e.CHILD_ENDED, "at": at, "payload": payload}
