"""When a join may begin, and which steps can no longer be reached."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..playbook.plan import Plan
from .state import State


def blocked(plan: Plan, state: State, step: str) -> bool:
    """Whether `step`, which an arc has led to, must wait for something under way that can still lead to it.

    A join waits for steps that can reach it. For a step that runs or is about to run, any path counts. For a step
    that may have to wait itself, only forward paths count; otherwise two joins on one cycle would wait for each other.

    A step that a back-edge has led to waits for the rest of the round, that is for all steps in the body of its cycle.
    So each round is one run of the step, however many branches lead back.
    """
    return may_wait(plan, state, step) and next(_blockers(plan, state, step), None) is not None


def blockers(plan: Plan, state: State, step: str) -> set[str]:
    """The steps that `step` waits for."""
    return set(_blockers(plan, state, step)) if may_wait(plan, state, step) else set()


def may_wait(plan: Plan, state: State, step: str) -> bool:
    """Whether it is a join, or the beginning of a cycle's next round."""
    return len(plan.sources.get(step, ())) > 1 or _reached_by_back_edge(plan, state, step)


def first_deadlocked(plan: Plan, state: State, steps: Sequence[str]) -> str | None:
    """The step to begin although it waits, among `steps`, all of which wait: the first that no running step holds up
    and that waits only for steps that wait for it. Interwoven cycles lead to this."""
    free = [step for step in steps if next(_running(plan, state, step), None) is None]
    waits_for = {step: set(_waiting(plan, state, step)) for step in free}
    return next(
        (step for step in free if all(step in _transitive_waits(waits_for, other) for other in waits_for[step])), None
    )


def _transitive_waits(waits_for: Mapping[str, set[str]], step: str) -> set[str]:
    found: set[str] = set()
    queue = [step]
    while queue:
        more = waits_for.get(queue.pop(), set()) - found
        found |= more
        queue += more
    return found


def _blockers(plan: Plan, state: State, step: str) -> Iterator[str]:
    yield from _running(plan, state, step)
    yield from _waiting(plan, state, step)


def _running(plan: Plan, state: State, step: str) -> Iterator[str]:
    running = (token.step for token in state.tokens.values())
    if _reached_by_back_edge(plan, state, step):
        body = plan.bodies[step]
        return (other for other in running if other in body)
    return (other for other in running if step in plan.reach[other])


def _waiting(plan: Plan, state: State, step: str) -> Iterator[str]:
    waiting = (other for other in state.waiting if other != step)
    if _reached_by_back_edge(plan, state, step):
        body = plan.bodies[step]
        return (other for other in waiting if other in body)
    return (other for other in waiting if _holds_up(plan, state, other, step))


def _holds_up(plan: Plan, state: State, other: str, join: str) -> bool:
    """Whether a join waits for `other`, a step that an arc has led to and that has not begun."""
    if not may_wait(plan, state, other):
        return join in plan.reach[other]
    # the next round of a cycle does not hold up the rest of this one
    return join in plan.reach_forward[other] and not (
        _reached_by_back_edge(plan, state, other) and join in plan.bodies[other]
    )


def _reached_by_back_edge(plan: Plan, state: State, step: str) -> bool:
    back_sources = plan.back_sources.get(step)
    return back_sources is not None and not back_sources.isdisjoint(state.waiting[step])


def unreachable(plan: Plan, state: State, targets: Iterable[str]) -> list[str]:
    """The steps, among `targets` and those after them, that never ran and that nothing under way can reach, in order.

    The search passes through steps that have run: once a cycle is left, its other exits cannot be reached either.
    """
    alive = {token.step for token in state.tokens.values()} | state.waiting.keys()
    final = plan.final_step
    if final is not None and final not in state.generations:
        # it runs at the end, whatever leads to it
        alive.add(final)
    found: list[str] = []
    seen: set[str] = set()
    queue = deque(targets)
    while queue:
        step = queue.popleft()
        if step in alive or step in seen or any(step in plan.reach[other] for other in alive):
            continue
        seen.add(step)
        if step not in state.generations:
            if step in state.outcomes:
                continue
            found.append(step)
        queue.extend(arc.target for arc in plan.steps[step].arcs)
    return found
