"""Divides the commands of one claim among the executions that wait, as `noetl.shares` does in PostgreSQL."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

# a draw is a place on a circle of this length; each is the golden section of the circle after the one before
CIRCLE = 2**32
GOLDEN_RATIO_MULTIPLIER = 2_654_435_769


class Waiting(NamedTuple):
    """An execution that waits: its playbook, the playbook's weight, and whether no command of it runs."""

    playbook: int
    weight: int
    idle: bool


def playbook_of(path: str) -> int:
    """A signed 32-bit hash of a playbook's path: the few playbooks that collide share their turns."""
    return zlib.crc32(path.encode()) - 2**31


def draw(number: int) -> int:
    """The place that the claim of this number draws; claims are numbered from 1."""
    return number * GOLDEN_RATIO_MULTIPLIER % CIRCLE


def shares(waiting: Sequence[Waiting], room: int, drawn: int) -> list[int]:
    """How many of `room` commands each of `waiting` is given; those first in turn are first in the list.

    Each idle execution is given one, and the rest is divided among all; if the room is not enough for that, it is
    divided among the idle ones alone. It is divided among the playbooks by weight, rounded up where `drawn` points, and
    evenly within a playbook.
    """
    idle = sum(each.idle for each in waiting)
    if idle > room:
        return _divided([each if each.idle else None for each in waiting], room, drawn)
    parts = _divided(waiting, room - idle, drawn)
    return [part + each.idle for part, each in zip(parts, waiting, strict=True)]


def _divided(waiting: Sequence[Waiting | None], parts: int, drawn: int) -> list[int]:
    """A None gets no share. The remainder within a playbook goes to those in front, and last to those that are idle."""
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
