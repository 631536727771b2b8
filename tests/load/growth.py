"""Whether something has grown: the last third of what was sampled against the first."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """The last third may come to `factor` times the first and `slack` more, in the unit of the samples."""

    factor: float
    slack: float


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the first and the last third, and what the last was allowed."""

    name: str
    first: float
    last: float
    allowed: float

    @property
    def within(self) -> bool:
        return self.last <= self.allowed

    def __str__(self) -> str:
        return f"{self.name}: {self.first:.4g} -> {self.last:.4g}, allowed {self.allowed:.4g}"


def growth(name: str, samples: Sequence[float], bound: Bound) -> Growth:
    """ValueError for fewer than six samples: two in each third is the least that says anything."""
    if len(samples) < 6:
        raise ValueError(f"{name}: {len(samples)} samples do not tell whether it grows")
    third = len(samples) // 3
    first, last = statistics.median(samples[:third]), statistics.median(samples[-third:])
    return Growth(name, first, last, bound.factor * first + bound.slack)
