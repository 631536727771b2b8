"""What is done to the stack, and when: derived from a seed, so that it can be done again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from tests.e2e.faults import TOGETHER

# seconds between the beginnings of two faults
PAUSES = (0.2, 2.0)
# a restart needs the servers; this long before and behind one nothing else is done
QUIET = 1.0
# how long a restart may take
RESTART = 8.0

KILLS = (
    *("worker python", "worker server", "worker arbiter"),
    *("control_plane server", "control_plane arbiter", "reconciler server", "reconciler arbiter"),
    *("gateway server", "gateway arbiter", "nats", "postgres", "postgres backend"),
)
KILLS_TOGETHER = (TOGETHER, "worker python", "nats", "postgres", "postgres backend")
STOPS = ("worker", "worker python", "control_plane", "reconciler", "gateway", "nats", "postgres", "postgres backend")
STOPS_TOGETHER = (TOGETHER, "worker python", "nats", "postgres", "postgres backend")
WIRES = ("postgres", "nats")
CUTS = ("refuse", "reset", "stall", "lose")
DISKS = ("worker", "postgres", "nats", "results")
DISKS_TOGETHER = (TOGETHER, "postgres", "nats", "results")
RESTARTS = ("down and up", "crash")


@dataclass(frozen=True, slots=True)
class Fault:
    """`at` and `seconds` from the beginning; `choice` picks among processes that are there only then."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    how: str = ""
    choice: float = 0.0

    @property
    def name(self) -> str:
        return " ".join(word for word in (self.kind, self.target, self.how) if word)

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:7.2f}  {self.name}{lasting}"


def plan(seed: int, seconds: float, *, together: bool = False) -> list[Fault]:
    """Faults from 0 to `seconds`, in order; every kind as often as the others, give or take one. `together`: the
    functions share processes."""
    rng = random.Random(seed)
    bag: list[Fault] = []
    found: list[Fault] = []
    now = rng.uniform(*PAUSES)
    while now < seconds:
        bag = bag or _bag(rng, together)
        drawn = bag.pop()
        fault = Fault(now, drawn.kind, drawn.target, drawn.seconds, drawn.how, rng.random())
        if fault.kind == "restart":
            start = max(now, max((other.at + other.seconds for other in found), default=0.0)) + QUIET
            if start + RESTART > seconds and found:
                now += rng.uniform(*PAUSES)
                continue
            fault = Fault(start, fault.kind, fault.target, fault.seconds)
            now = start + RESTART
        found.append(fault)
        now += rng.uniform(*PAUSES)
    return found


def _bag(rng: random.Random, together: bool) -> list[Fault]:
    """One of each, shuffled; restarts and disks are rarer than they would be by the number of their kinds."""
    kills, stops, disks = (KILLS_TOGETHER, STOPS_TOGETHER, DISKS_TOGETHER) if together else (KILLS, STOPS, DISKS)
    faults = [Fault(0, "kill", role) for role in kills]
    faults += [Fault(0, "stop", role, rng.choice((1.0, 3.0, 7.0))) for role in stops]
    faults += [Fault(0, "cut", wire, rng.uniform(0.5, 5.0), rng.choice(CUTS)) for wire in WIRES for _ in range(2)]
    faults += [Fault(0, "fill the disk of", disk, rng.uniform(1.0, 4.0)) for disk in disks]
    faults += [Fault(0, "restart", rng.choice(RESTARTS))]
    rng.shuffle(faults)
    return faults


def listing(faults: Iterable[Fault]) -> str:
    return "\n".join(map(str, faults))
