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


def shares(waiting: Sequence[Waiting], count: int, draw_position: int) -> list[int]:
    """How many of `count` commands each of `waiting` is given; those first in turn are first in the list.

    Each idle execution is given one, and the rest is divided among all; if there are not enough for that, they are
    divided among the idle ones alone. They are divided among the playbooks by weight, rounded up where `draw_position`
    points, and evenly within a playbook.
    """
    idle = sum(execution.idle for execution in waiting)
    if idle > count:
        return _divided([execution if execution.idle else None for execution in waiting], count, draw_position)
    parts = _divided(waiting, count - idle, draw_position)
    return [part + execution.idle for part, execution in zip(parts, waiting, strict=True)]


def _divided(waiting: Sequence[Waiting | None], count: int, draw_position: int) -> list[int]:
    """A None gets no share. The remainder within a playbook goes to those in front, and last to those that are idle."""
    weights: dict[int, int] = {}
    for execution in waiting:
        if execution:
            weights[execution.playbook] = max(execution.weight, weights.get(execution.playbook, 0))
    total = sum(weights.values())
    shift = draw_position * total // CIRCLE
    divided = [0] * len(waiting)
    end = 0
    for playbook, weight in sorted(weights.items()):
        members = [index for index, execution in enumerate(waiting) if execution and execution.playbook == playbook]
        members.sort(key=lambda index: waiting[index].idle)  # type: ignore[union-attr]
        start, end = end, end + weight
        share = (end * count + shift) // total - (start * count + shift) // total
        for rank, index in enumerate(members):
            divided[index] = share // len(members) + (rank < share % len(members))
    return divided
