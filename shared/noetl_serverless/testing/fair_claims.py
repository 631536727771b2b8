"""Which pending commands a claim takes: what `noetl.fair` does in PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

from ..store.shares import Waiting, draw, shares

# how many executions one claim considers
MAX_CANDIDATES = 64

# (execution id, command id)
Key = tuple[str, str]


class PendingQueue(NamedTuple):
    """The pending commands of an execution, longest waiting first; its playbook, and the weight of the playbook."""

    keys: Sequence[Key]
    playbook: int
    weight: int


class FairClaims:
    """Keeps state from one claim to the next."""

    def __init__(self) -> None:
        self._draws = 0

    def take(
        self, queues: Mapping[str, PendingQueue], running: Mapping[str, int], busy: set[int], count: int
    ) -> list[Key]:
        """At most `count` pending commands: one of each idle playbook, if others are busy, and then the shares of the
        executions, those with the fewest running commands first.

        `queues`: by execution, longest waiting first; `running`: how many commands of each execution run; `busy`: the
        playbooks with running commands."""
        run = Counter(running)
        left = sorted(_looked_at(queues), key=lambda id: run[id])
        playbooks = {queues[id].playbook for id in left}
        if len(playbooks) > 1:
            self._draws += 1
        # idle playbooks come first only if others are busy
        idle = playbooks - busy if playbooks & busy else set()
        taken: list[Key] = []
        leased_before: Counter[str] = Counter()
        while left and len(taken) < count:
            if idle:
                granted = _first_of(idle, [queues[id].playbook for id in left])
                idle = set()
            else:
                waiting = [Waiting(queues[id].playbook, queues[id].weight, not run[id]) for id in left]
                granted = shares(waiting, count - len(taken), draw(self._draws))
            more = []
            for id, share in zip(left, granted, strict=True):
                if len(taken) == count:
                    break
                leased = queues[id].keys[leased_before[id] : leased_before[id] + share]
                taken += leased
                leased_before[id] += share
                run[id] += share
                if len(leased) == share:
                    more.append(id)
            left = sorted(more, key=lambda id: leased_before[id])
        return taken


def _looked_at(queues: Mapping[str, PendingQueue]) -> list[str]:
    """At most MAX_CANDIDATES executions, in order, evenly chosen from the playbooks."""
    playbooks: dict[int, list[str]] = {}
    for id, queue in queues.items():
        playbooks.setdefault(queue.playbook, []).append(id)
    chosen = set(islice((id for row in zip_longest(*playbooks.values()) for id in row if id), MAX_CANDIDATES))
    return [id for id in queues if id in chosen]


def _first_of(idle: set[int], playbooks: Sequence[int]) -> list[int]:
    """1 for the first execution of each idle playbook, else 0."""
    first = {playbook: place for place, playbook in reversed(list(enumerate(playbooks)))}
    return [int(playbook in idle and first[playbook] == place) for place, playbook in enumerate(playbooks)]
