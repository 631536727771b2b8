"""Whether what a restart takes over, or does again, is undone elsewhere: by another execution that goes on with the
same, by a sub-playbook of one of them, or by what goes on with such a one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ..engine.compensation import is_owed
from ..engine.state import State
from ..errors import Conflict
from ..inspection.restart import Restart
from ..playbook.plan import Plan
from ..records import RelatedRestart


def check_related(restart: Restart, related: Sequence[RelatedRestart], archived: Mapping[str, Plan]) -> None:
    """Raises Conflict if one of `related` has undone what this one takes over, or would if it failed; or if this one
    would undo something while another goes on with it, or after another has undone something. `archived`: the plans of
    those of which it is not known what they have undone, as far as the playbook still has their versions."""
    for other in related:
        if other.execution_id == restart.execution_id:
            continue
        shared = _undoes(other, restart.kept, archived.get(other.execution_id))
        if (reason := _conflict(other, shared, bool(restart.undoes))) is not None:
            raise Conflict(f"execution {restart.execution_id} cannot be restarted: {reason}")
    restart.warnings.extend(
        f"execution {other.execution_id} goes on with the same, and has completed: if this restart fails, it undoes "
        "what both have taken over"
        for other in related
        if restart.undoes and other.status == "COMPLETED" and other.execution_id != restart.execution_id
    )


def _undoes(other: RelatedRestart, steps: Set[str], plan: Plan | None) -> bool:
    """Whether it undoes something of `steps` if it fails, or has; `plan`: its own, if it is archived and has one."""
    if not other.may_have_undone:
        return not steps.isdisjoint(other.undoes or ())
    # its version is gone: it may have been any of them
    return bool(steps) if plan is None else any(_is_undone(plan, name) for name in steps)


def _is_undone(plan: Plan, step: str) -> bool:
    return step in plan.steps and plan.steps[step].compensation is not None


def check_running(restart: Restart, below: Mapping[str, str], running: Sequence[tuple[State, Plan]]) -> None:
    """`running`: what still runs of the old execution and of those related to it, and `below` which of these each is,
    or is below. Raises Conflict if one undoes what it has done, or will; warns of others."""
    for state, plan in running:
        if is_owed(plan, state):
            which = _described(restart, state, below[state.execution_id])
            raise Conflict(
                f"execution {restart.execution_id} cannot be restarted yet: {which} has still to undo what it has "
                "done. Wait until it has ended, or cancel it"
            )
    restart.warnings.extend(
        f"execution {state.execution_id}, {'' if state.restart_of is None else 'which goes on with '}a sub-playbook of "
        "the old execution, still runs"
        for state, _ in running
        if below[state.execution_id] == restart.execution_id
    )


def _described(restart: Restart, state: State, of: str) -> str:
    """`of`: which of the related executions it is, or is below."""
    id = state.execution_id
    related = f"execution {of}, which goes on with the same or with which it goes on,"
    if id == of:
        return related
    if state.restart_of is not None:
        whose = "one of its sub-playbooks" if of == restart.execution_id else f"a sub-playbook of execution {of}"
        return f"execution {id}, which goes on with {whose},"
    return f"its sub-playbook {id}" if of == restart.execution_id else f"sub-playbook {id} of {related}"


def _conflict(other: RelatedRestart, shared: bool, undoes: bool) -> str | None:
    """`shared`: whether it undoes what the restart takes over; `undoes`: whether the restart would undo something."""
    which = f"execution {other.execution_id}, which goes on with the same,"
    if other.is_open and shared:
        return (
            f"{which} has not ended, and undoes what is done if it fails. Wait until it has ended, or cancel it and "
            "restart that one"
        )
    if other.is_open and undoes:
        return (
            f"{which} has not ended, and this restart would undo what is done if it failed. Wait until it has ended, "
            "or cancel it and restart that one"
        )
    if not (shared or undoes):
        return None
    if other.has_undone:
        return (
            f"{which} has undone what was done, or tried to. Start it anew, with `noetls run --again "
            f"{other.execution_id}` or POST /api/executions/{other.execution_id}/rerun, once what was not undone is "
            "settled by hand"
        )
    if other.may_have_undone:
        return f"{which} is archived as {other.status}, and may have undone what was done. Start it anew"
    return None
