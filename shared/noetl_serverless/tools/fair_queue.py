"""A queue in which nobody waits behind the many of another: self-clocked fair queueing (Golestani, 1994).

Each key has a clock's time at which its next turn is, further on by one over its weight with each turn; whoever is due
first is next, and the clock then shows that time. Who comes anew is due one step from what it shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Share(NamedTuple):
    """In whose name something waits, and how many turns that has for one of a weight of 1."""

    key: str = ""
    weight: int = 1


NO_SHARE = Share()


@dataclass(slots=True)
class _Line(Generic[T]):
    due: float
    step: float
    items: deque[T] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """Turns among keys in proportion to their weights, and within a key first come, first served."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lines: dict[str, _Line[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[T]:
        return (item for line in self._lines.values() for item in line.items)

    def add(self, share: Share, item: T) -> None:
        line = self._lines.get(share.key)
        if line is None:
            step = 1 / share.weight
            line = self._lines[share.key] = _Line(self._now + step, step)
        line.items.append(item)

    def pop(self) -> T:
        """The next in turn, of those due at once whoever came first; IndexError if nobody waits."""
        if not self._lines:
            raise IndexError("nobody waits")
        key = min(self._lines, key=lambda key: self._lines[key].due)
        line = self._lines[key]
        self._now = line.due
        item = line.items.popleft()
        line.due += line.step
        if not line.items:
            del self._lines[key]
        return item

    def discard(self, share: Share, item: T) -> None:
        """Whoever is not in it any more stays so."""
        line = self._lines.get(share.key)
        if line is None or item not in line.items:
            return
        line.items.remove(item)
        if not line.items:
            del self._lines[share.key]
