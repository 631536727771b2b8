"""When a join may begin, and which steps can no longer be reached."""

from __future__ import annotations

from collections.abc import Iterable

from ..playbook.plan import Plan
from .state import State


def blocked(plan: Plan, state: State, step: str) -> bool:
    """Whether `step`, which was led to, is to wait for something under way that can still lead to it.

    A join waits for what can reach it: for a running step over any path, for one that itself waits over forward paths
    only, or two joins on one cycle would wait for each other. A step that was led back to waits for what is left of
    the round: for all in the body of its cycle, so that each round is one run of the step, whatever the number of
    branches that lead back.
    """
    if _led_back(plan, state, step):
        body = plan.bodies[step]
        return any(token.step in body for token in state.tokens.values()) or any(
            other in body for other in state.waiting if other != step
        )
    if len(plan.sources.get(step, ())) < 2:
        return False
    if any(step in plan.reach[token.step] for token in state.tokens.values()):
        return True
    return any(
        step in plan.reach_forward[other]
        # the next round of a cycle does not hold up what is left of this one
        and not (_led_back(plan, state, other) and step in plan.bodies[other])
        for other in state.waiting
        if other != step
    )


def _led_back(plan: Plan, state: State, step: str) -> bool:
    back = plan.back_sources.get(step)
    return back is not None and not back.isdisjoint(state.waiting[step])


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
