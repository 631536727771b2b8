"""How the commands of one claim are divided among the executions that wait: what `noetl.shares` does in PostgreSQL."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

# a draw is a place on a circle of so many, and the next one lies the golden section of it further
CIRCLE = 2**32
GOLDEN_RATIO_MULTIPLIER = 2_654_435_769


class Waiting(NamedTuple):
    """An execution that waits: its playbook and what that weighs, and whether nothing of it runs."""

    playbook: int
    weight: int
    idle: bool


def playbook_of(path: str) -> int:
    """A number of 32 bits, with a sign, for the playbook of a path: those few that have the same share its turns."""
    return zlib.crc32(path.encode()) - 2**31


def draw(number: int) -> int:
    """The place that the claim of this number draws, counted from 1."""
    return number * GOLDEN_RATIO_MULTIPLIER % CIRCLE


def shares(waiting: Sequence[Waiting], room: int, drawn: int) -> list[int]:
    """Of `room` commands, how many each is given of those that are `waiting`, those first in turn in front.

    First each of which nothing runs is given one, and what is left is divided among all; if the room is not enough for
    that, it is divided among these alone. It is divided among the playbooks by weight, rounded up where `drawn` points,
    and within a playbook evenly.
    """
    idle = sum(each.idle for each in waiting)
    if idle > room:
        return _divided([each if each.idle else None for each in waiting], room, drawn)
    parts = _divided(waiting, room - idle, drawn)
    return [part + each.idle for part, each in zip(parts, waiting, strict=True)]


def _divided(waiting: Sequence[Waiting | None], parts: int, drawn: int) -> list[int]:
    """None has no share. What cannot be divided within a playbook goes to those in front that have had none."""
    weights: dict[int, int] = {}
    for each in waiting:
        if each:
            weights[each.playbook] = max(each.weight, weights.get(each.playbook, 0))
    total = sum(weights.values())
    shift = drawn * total // CIRCLE
    given = [0] * len(waiting)
    upto = 0
    for playbook, weight in sorted(weights.items()):
        members = [place for place, each in enumerate(waiting) if each and each.playbook == playbook]
        members.sort(key=lambda place: waiting[place].idle)  # type: ignore[union-attr]
        below, upto = upto, upto + weight
        part = (upto * parts + shift) // total - (below * parts + shift) // total
        for rank, place in enumerate(members):
            given[place] = part // len(members) + (rank < part % len(members))
    return given
