"""An execution that could not be decided about, let go on as it was."""

from __future__ import annotations

from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..errors import Conflict, NotFound
from ..store.log import Case, Log, still_open
from ..store.projections import project
from .playbooks import Playbooks
from .turn import Turn, ending


async def released(log: Log, playbooks: Playbooks, execution_id: str, at: int) -> Turn:
    """The turn that takes it out of quarantine: its commands are out again, but those whose facts were kept, which come
    back into its inbox; and so does the end of a child that ended meanwhile. Raises NotFound, and Conflict."""
    case = (await log.load([execution_id])).get(execution_id)
    if case is None:
        raise NotFound(f"there is no execution {execution_id}")
    found = await log.quarantined(1, execution_id=execution_id)
    if not found or not case.state.quarantined:
        raise Conflict(f"execution {execution_id} is not in quarantine")
    if case.broken is not None:
        raise Conflict(f"the state of execution {execution_id} still cannot be read: {case.broken}")
    plan = await playbooks.plan(case.plan_hash)
    turn = Turn(case, plan)
    turn.take(Event(e.RETRIED, at, payload={"seq": found[0].seq}))
    kept = {fact["command"] for fact in found[0].facts}
    rows = still_open(project(execution_id, await log.events(execution_id), plan.pool).commands, case.state)
    turn.again = [row for row in rows if row["command"] not in kept and row["command"] not in turn.issued]
    told = {fact["payload"].get("execution_id") for fact in found[0].facts}
    turn.appends += await _ended_children(log, case, at, told)
    return turn


async def _ended_children(log: Log, case: Case, at: int, told: set[str | None]) -> list[dict[str, Any]]:
    """The ends of the children it waits for, as facts for its inbox: while it stood still nobody told it."""
    facts = []
    for id, child in (await log.load(list(case.state.children))).items():
        link = child.parent
        if child.state.ended and link is not None and id not in told:
            payload = {"execution_id": id, "resumes": link["resumes"]}
            payload.update(ending(child.state, link.get("return_step"), id))
            names = {"id": case.execution_id, "step": link["step"], "generation": link["generation"]}
            facts.append({**names, "type": e.CHILD_ENDED, "at": at, "payload": payload})
    return facts
