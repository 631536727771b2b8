"""Whether what a restart takes over, or does again, is undone elsewhere: by another execution that goes on with the
same, or by a sub-playbook of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..engine.compensation import is_owed
from ..engine.state import State
from ..errors import Conflict
from ..inspection.restart import Restart
from ..playbook.plan import Plan
from ..records import RelatedRestart


def may_undo(restart: Restart, plan: Plan) -> bool:
    """Whether it takes over what would be undone if it failed. `plan`: to go on with."""
    loops = any(plan.steps[loop.step].compensation is not None for loop in restart.loops)
    return loops or bool(restart.compensable)


def check_related(restart: Restart, related: Sequence[RelatedRestart]) -> None:
    """Raises Conflict if one of `related` has undone what this one takes over, or would undo it, too, if it failed."""
    for other in related:
        if other.execution_id != restart.execution_id and (reason := _conflict(other)) is not None:
            raise Conflict(f"execution {restart.execution_id} cannot be restarted: {reason}")
    restart.warnings.extend(
        f"execution {other.execution_id} goes on with the same, and has completed: if this restart fails, it undoes "
        "what both have taken over"
        for other in related
        if other.status == "COMPLETED" and other.execution_id != restart.execution_id
    )


def check_running(restart: Restart, below: Mapping[str, str], running: Sequence[tuple[State, Plan]]) -> None:
    """`running`: what still runs of the old execution and of those related to it, and `below` which of these each is,
    or is below. Raises Conflict if one undoes what it has done, or will; warns of others."""
    for state, plan in running:
        if is_owed(plan, state):
            which = _described(restart, state.execution_id, below[state.execution_id])
            raise Conflict(
                f"execution {restart.execution_id} cannot be restarted yet: {which} has still to undo what it has "
                "done. Wait until it has ended, or cancel it"
            )
    restart.warnings.extend(
        f"execution {state.execution_id}, a sub-playbook of the old execution, still runs"
        for state, _ in running
        if below[state.execution_id] == restart.execution_id
    )


def _described(restart: Restart, execution_id: str, of: str) -> str:
    if of == restart.execution_id:
        return f"its sub-playbook {execution_id}"
    related = f"execution {of}, which goes on with the same or with which it goes on,"
    return related if execution_id == of else f"sub-playbook {execution_id} of {related}"


def _conflict(other: RelatedRestart) -> str | None:
    which = f"execution {other.execution_id}, which goes on with the same,"
    if other.is_open:
        return (
            f"{which} has not ended, and undoes what is done if it fails. Wait until it has ended, or cancel it and "
            "restart that one"
        )
    if other.has_undone:
        return (
            f"{which} has undone what was done, or tried to. Start it anew, with `noetls run --again "
            f"{other.execution_id}` or POST /api/executions/{other.execution_id}/rerun, once what was not undone is "
            "settled by hand"
        )
    if other.has_undone is None and other.status is not None:
        return f"{which} is archived as {other.status}, and may have undone what was done. Start it anew"
    return None
