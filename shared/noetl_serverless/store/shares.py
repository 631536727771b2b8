"""How the commands of one claim are divided among the executions that wait: what `noetl.shares` does in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# a draw is a place on a circle of so many, and the next one lies the golden section of it further
CIRCLE = 2**32
GOLDEN = 2_654_435_769


class Waiting(NamedTuple):
    """An execution that waits: its weight, and whether nothing of it runs."""

    weight: int
    idle: bool


def draw(number: int) -> int:
    """The place that the claim of this number draws, counted from 1."""
    return number * GOLDEN % CIRCLE


def shares(waiting: Sequence[Waiting], room: int, drawn: int) -> list[int]:
    """Of `room` commands, how many each is given of those that are `waiting`, those first in turn in front.

    First each of which nothing runs is given one, and what is left is divided among all; if the room is not enough for
    that, it is divided among these alone. It is divided among the weights by what the executions of each weigh
    together, rounded up where `drawn` points, and within a weight evenly.
    """
    resting = sum(each.idle for each in waiting)
    if resting > room:
        return _divided([each if each.idle else None for each in waiting], room, drawn)
    parts = _divided(waiting, room - resting, drawn)
    return [part + each.idle for part, each in zip(parts, waiting, strict=True)]


def _divided(waiting: Sequence[Waiting | None], parts: int, drawn: int) -> list[int]:
    """None has no share. What cannot be divided within a weight goes to those in front that have had none."""
    total = sum(each.weight for each in waiting if each)
    shift = drawn * total // CIRCLE
    given = [0] * len(waiting)
    upto = 0
    for weight in sorted({each.weight for each in waiting if each}):
        members = [place for place, each in enumerate(waiting) if each and each.weight == weight]
        members.sort(key=lambda place: waiting[place].idle)  # type: ignore[union-attr]
        below, upto = upto, upto + weight * len(members)
        part = (upto * parts + shift) // total - (below * parts + shift) // total
        for rank, place in enumerate(members):
            given[place] = part // len(members) + (rank < part % len(members))
    return given
