"""A queue in which many items of one key do not delay those of others: self-clocked fair queueing (Golestani, 1994).

Each key has a virtual time at which its next turn is due; each turn advances it by one over the key's weight. The key
that is due first is next, and the virtual clock is set to its time. A new key is due one step after the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Share(NamedTuple):
    """The key under which something waits, and how many turns it gets for each turn of a key of weight 1."""

    key: str = ""
    weight: int = 1


NO_SHARE = Share()


@dataclass(slots=True)
class _KeyQueue(Generic[T]):
    due: float
    step: float
    items: deque[T] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """Turns among keys in proportion to their weights, and within a key first come, first served."""

    def __init__(self) -> None:
        self._now = 0.0
        self._queues: dict[str, _KeyQueue[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[T]:
        return (item for queue in self._queues.values() for item in queue.items)

    def add(self, share: Share, item: T) -> None:
        queue = self._queues.get(share.key)
        if queue is None:
            step = 1 / share.weight
            queue = self._queues[share.key] = _KeyQueue(self._now + step, step)
        queue.items.append(item)

    def pop(self) -> T:
        """The next in turn; of keys that are due at the same time, the one that came first. IndexError if empty."""
        if not self._queues:
            raise IndexError("nobody waits")
        key = min(self._queues, key=lambda key: self._queues[key].due)
        queue = self._queues[key]
        self._now = queue.due
        item = queue.items.popleft()
        queue.due += queue.step
        if not queue.items:
            del self._queues[key]
        return item

    def discard(self, share: Share, item: T) -> None:
        """Remove the item, if it is still in the queue."""
        queue = self._queues.get(share.key)
        if queue is None or item not in queue.items:
            return
        queue.items.remove(item)
        if not queue.items:
            del self._queues[share.key]
