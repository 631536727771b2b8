"""Whether what a restart takes over, or does again, is undone elsewhere: by another execution that goes on with the
same, or by a sub-playbook of the old one."""

from __future__ import annotations

from collections.abc import Sequence

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


def check_children(restart: Restart, running: Sequence[tuple[State, Plan]]) -> None:
    """Raises Conflict if a sub-playbook of the old execution undoes what it has done, or will; warns of others."""
    for state, plan in running:
        if is_owed(plan, state):
            raise Conflict(
                f"execution {restart.execution_id} cannot be restarted yet: its sub-playbook {state.execution_id} has "
                "still to undo what it has done. Wait until it has ended, or cancel it"
            )
    restart.warnings.extend(
        f"execution {state.execution_id}, a sub-playbook of the old execution, still runs" for state, _ in running
    )


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
