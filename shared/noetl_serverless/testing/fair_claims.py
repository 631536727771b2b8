"""Whose commands a claim takes, of all that wait: what `noetl.fair` does in PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

from ..store.shares import Waiting, draw, shares

# executions that one claim looks at
MAX_CANDIDATES = 64

# (execution id, command id)
Key = tuple[str, str]


class PendingQueue(NamedTuple):
    """The commands of an execution that wait, those that have waited longest in front; and its playbook, and what that
    weighs."""

    keys: Sequence[Key]
    playbook: int
    weight: int


class FairClaims:
    """From one claim to the next."""

    def __init__(self) -> None:
        self._draws = 0

    def take(
        self, queues: Mapping[str, PendingQueue], running: Mapping[str, int], busy: set[int], room: int
    ) -> list[Key]:
        """At most `room` of what waits: one of each playbook of which nothing runs, beside others, and then the shares
        of the executions, those first in turn of which the fewest run.

        `queues`: by execution, those that have waited longest in front; `running`: how many commands of each execution
        run; `busy`: the playbooks of which any does."""
        run = Counter(running)
        left = sorted(_looked_at(queues), key=lambda id: run[id])
        playbooks = {queues[id].playbook for id in left}
        if len(playbooks) > 1:
            self._draws += 1
        # only beside others are those first of which nothing runs
        idle = playbooks - busy if playbooks & busy else set()
        taken: list[Key] = []
        had: Counter[str] = Counter()
        while left and len(taken) < room:
            if idle:
                given = _first_of(idle, [queues[id].playbook for id in left])
                idle = set()
            else:
                waiting = [Waiting(queues[id].playbook, queues[id].weight, not run[id]) for id in left]
                given = shares(waiting, room - len(taken), draw(self._draws))
            more = []
            for id, share in zip(left, given, strict=True):
                if len(taken) == room:
                    break
                got = queues[id].keys[had[id] : had[id] + share]
                taken += got
                had[id] += share
                run[id] += share
                if len(got) == share:
                    more.append(id)
            left = sorted(more, key=lambda id: had[id])
        return taken


def _looked_at(queues: Mapping[str, PendingQueue]) -> list[str]:
    """As many executions of each playbook, in order."""
    playbooks: dict[int, list[str]] = {}
    for id, queue in queues.items():
        playbooks.setdefault(queue.playbook, []).append(id)
    chosen = set(islice((id for row in zip_longest(*playbooks.values()) for id in row if id), MAX_CANDIDATES))
    return [id for id in queues if id in chosen]


def _first_of(idle: set[int], playbooks: Sequence[int]) -> list[int]:
    """1 for the first in turn of each of the playbooks that rest."""
    first = {playbook: place for place, playbook in reversed(list(enumerate(playbooks)))}
    return [int(playbook in idle and first[playbook] == place) for place, playbook in enumerate(playbooks)]
