"""Each planted fault is found, and soon."""

from __future__ import annotations

import pytest

from .mutants import MUTANTS
from .playbooks import SHARE
from .seeds import oracle, run_seed

WITHIN = 800


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str) -> None:
    assert any(_finds(name, seed) for seed in range(WITHIN)), f"{WITHIN} seeds, and nobody noticed"


def _finds(name: str, seed: int) -> bool:
    # how it should end is found out with the engine as it is
    oracle(seed // SHARE)
    with MUTANTS[name]():
        return run_seed(seed).fault is not None
