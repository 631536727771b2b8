"""What goes wrong, and when: drawn from the seed, each kind from a stream of its own.

Whatever strikes is counted; a run can be repeated without some of the kinds, or without single strikes, which is how
a failing run is made small.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

# kind -> how often it strikes, of the times it could, when the seed turns it on
RATES = {
    # statements of the store: the process dies before or after it took effect; or lives, and does not learn which
    "crash_before": 0.01,
    "crash_after": 0.015,
    "store_away": 0.02,
    "store_answer_lost": 0.02,
    # requests of workers and users
    "request_lost": 0.03,
    "request_twice": 0.04,
    "answer_lost": 0.04,
    "wire_slow": 0.04,
    # the bus and the invoker
    "note_lost": 0.15,
    "note_twice": 0.15,
    "note_late": 0.15,
    "bus_away": 0.04,
    "ack_lost": 0.1,
    "invocation_lost": 0.15,
    "invocation_twice": 0.1,
    # results
    "results_away": 0.15,
    # drawn once a (virtual) second for the whole world
    "crash": 0.08,
    "stop": 0.12,
    "stall": 0.08,
    # drawn once for each process
    "skew": 0.5,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run leaves out: whole kinds, or single strikes by their number."""

    without: frozenset[str] = frozenset()
    skip: frozenset[int] = frozenset()
    # processes take turns instead of being drawn
    in_order: bool = False
    # of the executions of the seed, only so many
    starts: int | None = None


@dataclass(slots=True)
class Faults:
    seed: int
    limits: Limits = field(default_factory=Limits)
    on: bool = True
    strikes: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    # told of each strike: number, kind
    listener: Callable[[int, str], None] = lambda number, kind: None
    _rates: dict[str, float] = field(default_factory=dict)
    _draws: dict[str, Callable[[], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        setup = stream(self.seed, "faults")
        calm = setup.random() < 0.1
        for kind, rate in RATES.items():
            self._rates[kind] = 0.0 if calm else rate * setup.choice((0.0, 0.0, 0.5, 1.0, 1.0, 3.0))

    def strike(self, kind: str) -> bool:
        rate = self._rates[kind]
        if not self.on or rate == 0.0:
            return False
        draw = self._draws.get(kind)
        if draw is None:
            draw = self._draws[kind] = stream(self.seed, kind).random
        if draw() >= rate or kind in self.limits.without:
            return False
        self.strikes += 1
        if self.strikes in self.limits.skip:
            return False
        self.seen[kind] += 1
        self.listener(self.strikes, kind)
        return True

    @property
    def kinds(self) -> Collection[str]:
        return [kind for kind, rate in self._rates.items() if rate]


def stream(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")


def none(seed: int) -> Faults:
    """A world in which nothing goes wrong."""
    faults = Faults(seed)
    faults.on = False
    return faults
