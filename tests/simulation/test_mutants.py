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
    "skip_the_fence_check": 39,
    "let_the_last_report_of_a_loop_win": 65,
    "tell_the_parent_twice": 32,
    "take_in_a_fact_twice": 16,
    "leave_the_inbox_to_itself": 51,
    "give_results_as_they_came": 16,
    "forget_the_skipped": 56,
    "spend_without_asking": 25,
    "keep_values_as_python_has_them": 24,
    "let_one_stop_the_others": 48,
    "claim_anew_after_a_loss": 120,
    "read_claimed_rows_as_far_as_they_have_no_gap": 456,
    "collect_what_failed": 320,
    "forget_what_a_suspended_pipeline_has_collected": 320,
    "report_before_the_result_is_written": 16,
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
    "take_an_outcome_under_any_fence": 1197,
    "give_children_no_time_to_end_in": 2024,
    "take_several_pauses_in_one_commit": 8_000_387,
    "hand_out_what_comes_back_in_a_pause": 8_000_074,
    "undo_in_the_order_in_which_it_was_done": 8_000_088,
    "forget_the_run_that_has_just_ended": 8_000_104,
    "undo_the_latest_run_alone": 8_000_088,
    "count_nothing": 8_000_010,
    "keep_the_slots_of_what_has_ended": 8_000_008,
    "never_attempt_an_event_again": 8_000_011,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str) -> None:
    first = FROM.get(name, 0)
    assert any(_finds(name, seed) for seed in _seeds(name, first)), f"{WITHIN} seeds, and nobody noticed"


@pytest.mark.parametrize("mutant", CONTROL_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_simulation_of_what_users_do_finds(mutant: Mutant) -> None:
    first = FROM.get(mutant.__name__, CONTROLLED * SHARE)
    of = CONTROL_MUTANTS[mutant]
    seeds = (seed for seed in range(first, first + WITHIN) if _has(seed, of))
    assert any(_breaks(mutant, seed) for seed in seeds), f"{WITHIN} seeds, and nobody noticed"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MUTANTS if 0 < FROM.get(name, 0) < WITHIN])
def test_a_search_from_the_first_seed_on_finds_it_too(name: str) -> None:
    assert any(_finds(name, seed) for seed in _seeds(name, 0)), f"{WITHIN} seeds, and nobody noticed"


def _has(seed: int, recipe: str) -> bool:
    return any(each.recipe.startswith(recipe) for each in book(seed // SHARE).constructs)


def _seeds(name: str, first: int) -> Iterator[int]:
    """In the others there is nothing that it changes."""
    of = OF_CONSTRUCTS.get(name)
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
