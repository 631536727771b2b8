"""Every state of the model, one after the other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .model import Call, Model, State, fences_of


@dataclass(slots=True)
class Space:
    states: int = 0
    edges: int = 0
    done: int = 0
    # (what is wrong, the steps that led there)
    wrong: list[tuple[str, list[str]]] = field(default_factory=list)


def explore(model: Model, limit: int = 2_000_000) -> Space:
    """Every state, breadth first; the first thing that is wrong ends it, with the shortest way there."""
    space = Space()
    first = canonical(model.first)
    came: dict[State, tuple[State, str] | None] = {first: None}
    back: dict[State, list[State]] = {first: []}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        space.states += 1
        if (wrong := model.wrong(state)) is not None:
            space.wrong.append((wrong, _way(came, state)))
            return space
        if model.done(state):
            space.done += 1
        for action, after in model.steps(state):
            after = canonical(after)
            space.edges += 1
            if after not in came:
                came[after] = (state, action)
                back[after] = []
                queue.append(after)
            back[after].append(state)
        if len(came) > limit:
            raise AssertionError(f"more than {limit} states")
    _check_liveness(model, space, came, back)
    return space


def _check_liveness(
    model: Model, space: Space, came: dict[State, tuple[State, str] | None], back: dict[State, list[State]]
) -> None:
    reached = {state for state in came if model.done(state)}
    queue = deque(reached)
    while queue:
        for before in back[queue.popleft()]:
            if before not in reached:
                reached.add(before)
                queue.append(before)
    for state in came:
        if state not in reached:
            space.wrong.append(("it can never end", _way(came, state)))
            return


def canonical(state: State) -> State:
    """The same state with fences numbered anew, and with workers and planes, which are alike, in order."""
    rank = {fence: index for index, fence in enumerate(sorted(fences_of(state)))}
    heads = sorted({state.head, *(call.head for call in (*state.calls, state.keeper) if call.head >= 0)})
    place = {head: index for index, head in enumerate(heads)}

    def call_of(call: Call) -> Call:
        return call._replace(fence=rank[call.fence], head=place[call.head] if call.head >= 0 else -1)

    cells = tuple((phase, 0 if phase == "logged" else rank[fence]) for phase, fence in state.cells)
    hands = tuple(sorted(hand._replace(fence=rank[hand.fence]) for hand in state.hands))
    calls = tuple(sorted((call_of(call) for call in state.calls), key=_order))
    keeper, head = call_of(state.keeper), place[state.head]
    return state._replace(cells=cells, hands=hands, calls=calls, keeper=keeper, head=head)


def _order(call: Call) -> tuple[object, ...]:
    return (*call[:5], sorted(call.seen))


def _way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    while (before := came[state]) is not None:
        state, action = before
        steps.append(action)
    return steps[::-1]
