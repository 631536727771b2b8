"""Each planted fault is found, and soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .control_mutants import CONTROL_MUTANTS, Mutant
from .mutants import MUTANTS, OF_CONSTRUCTS
from .playbooks import CONTROLLED, SHARE, book
from .seeds import oracle, run_seed

WITHIN = 800
# where a search begins that would be long from the start: at a seed which found it when this was written
FROM = {
    "forget_where_a_command_stopped": 216,
    "show_items_what_others_have_set": 312,
    "mend_by_any_condition": 432,
    "count_the_rest_twice": 226,
    "lose_the_rest_of_a_frame": 226,
    "do_not_say_where": 192,
    "hide_the_error_of_the_tool": 144,
    "forget_the_join": 136,
    "begin_each_round_for_each_branch": 177,
    "leave_children_running": 83,
    "take_an_outcome_under_any_fence": 1091,
    "give_children_no_time_to_end_in": 2024,
    "take_several_pauses_in_one_commit": 8_000_387,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str) -> None:
    assert any(_finds(name, seed) for seed in _seeds(name)), f"{WITHIN} seeds, and nobody noticed"


@pytest.mark.parametrize("mutant", CONTROL_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_simulation_of_what_users_do_finds(mutant: Mutant) -> None:
    first = FROM.get(mutant.__name__, CONTROLLED * SHARE)
    of = CONTROL_MUTANTS[mutant]
    seeds = (seed for seed in range(first, first + WITHIN) if _has(seed, of))
    assert any(_breaks(mutant, seed) for seed in seeds), f"{WITHIN} seeds, and nobody noticed"


def _has(seed: int, recipe: str) -> bool:
    return any(each.recipe.startswith(recipe) for each in book(seed // SHARE).constructs)


def _seeds(name: str) -> Iterator[int]:
    """In the others there is nothing that it changes."""
    of = OF_CONSTRUCTS.get(name)
    first = FROM.get(name, 0)
    for seed in range(first, first + WITHIN):
        if of is None or _has(seed, of):
            yield seed


def _finds(name: str, seed: int) -> bool:
    return _breaks(MUTANTS[name], seed)


def _breaks(mutant: Mutant, seed: int) -> bool:
    # how it should end is found out with the engine as it is
    oracle(seed // SHARE)
    with mutant():
        return run_seed(seed).fault is not None
