"""The model of claim, lease, fence, append and decide, looked at whole."""

from __future__ import annotations

import pytest

from .explore import explore
from .faults import Faults, Limits
from .model import GONE, Model, Rules, advance, conform
from .seeds import simulate


def test_no_state_breaks_a_rule_and_from_each_the_execution_can_end() -> None:
    space = explore(Model(commands=2, hands=2, planes=2, others=1))
    assert space.wrong == []
    assert space.states > 50_000
    assert space.done > 1000


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        (Rules(fence=False), "an effect under a stale fence"),
        (Rules(compare_and_set=False), "it can never end"),
        (Rules(requeue=False), "it can never end"),
        (Rules(take_once=False), "the log and the command disagree"),
        (Rules(reconcile=False), "it can never end"),
    ],
)
def test_without_one_of_its_rules_the_model_goes_wrong(rules: Rules, wrong: str) -> None:
    space = explore(Model(rules))
    assert [what for what, _ in space.wrong] == [wrong]
    assert space.wrong[0][1], "with the way there"


def test_the_runs_of_the_engine_are_runs_of_the_model() -> None:
    # `judge` holds every run of every test to the model; here, each action is seen among the first
    actions: set[str] = set()
    for seed in range(32):
        world, fault = simulate(seed, Faults(seed), Limits(), {})
        assert fault is None
        assert conform(world.log.moves) is None
        actions |= {action for _, _, action, _ in world.log.moves}
    assert actions == {"issue", "claim", "expire", "release", "commit", "append", "take", "ahead", "end"}


@pytest.mark.parametrize(
    "moves",
    [
        [("issue", 0), ("claim", 1), ("expire", 0), ("commit", 1)],
        [("issue", 0), ("claim", 1), ("commit", 1), ("claim", 2)],
        [("issue", 0), ("claim", 2), ("expire", 0), ("claim", 1)],
        [("issue", 0), ("claim", 1), ("append", 1), ("commit", 1)],
        [("issue", 0), ("claim", 1), ("append", 1), ("take", 1), ("take", 1)],
        [("issue", 0), ("issue", 0)],
    ],
)
def test_what_must_not_happen_does_not_conform(moves: list[tuple[str, int]]) -> None:
    assert conform(("1", "a#1", action, fence) for action, fence in moves) is not None
    assert advance(GONE, "claim", 1) is None
