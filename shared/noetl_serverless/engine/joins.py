"""When a join may begin, and which steps can no longer be reached."""

from __future__ import annotations

from collections.abc import Iterable

from ..playbook.plan import Plan
from .state import State


def blocked(plan: Plan, state: State, join: str) -> bool:
    """Whether something under way can still reach `join`.

    A running step holds it over any path. A step that itself waits holds it over forward paths only: otherwise two
    joins on one cycle would wait for each other.
    """
    if len(plan.sources.get(join, ())) < 2:
        return False
    if any(join in plan.reach[token.step] for token in state.tokens.values()):
        return True
    return any(join in plan.reach_forward[step] for step in state.waiting if step != join)


def unreachable(plan: Plan, state: State, targets: Iterable[str]) -> list[str]:
    """Of `targets` and what lies behind them: the steps never run that nothing under way can reach, in order."""
    alive = {token.step for token in state.tokens.values()} | state.waiting.keys()
    found: list[str] = []
    queue = list(targets)
    while queue:
        step = queue.pop(0)
        if step in alive or step in found or step in state.outcomes or step in state.generations:
            continue
        if step == plan.final_step or any(step in plan.reach[other] for other in alive):
            continue
        found.append(step)
        queue.extend(arc.target for arc in plan.steps[step].arcs)
    return found
