"""Each planted fault is found, and soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .mutants import MUTANTS, OF_CONSTRUCTS
from .playbooks import SHARE, book
from .seeds import oracle, run_seed

WITHIN = 800


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str) -> None:
    assert any(_finds(name, seed) for seed in _seeds(name)), f"{WITHIN} seeds, and nobody noticed"


def _seeds(name: str) -> Iterator[int]:
    """In the others there is nothing that it changes."""
    of = OF_CONSTRUCTS.get(name)
    for seed in range(WITHIN):
        if of is None or any(each.recipe.startswith(of) for each in book(seed // SHARE).constructs):
            yield seed


def _finds(name: str, seed: int) -> bool:
    # how it should end is found out with the engine as it is
    oracle(seed // SHARE)
    with MUTANTS[name]():
        return run_seed(seed).fault is not None
