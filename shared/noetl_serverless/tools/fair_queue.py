"""A queue in which nobody waits behind the many of another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """One of each key in turn, and within a key first come, first served."""

    def __init__(self) -> None:
        # those whose turn is next in front
        self._lines: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[T]:
        return (item for line in self._lines.values() for item in line)

    def add(self, key: str, item: T) -> None:
        self._lines.setdefault(key, deque()).append(item)

    def pop(self) -> T:
        """The next in turn; IndexError if nobody waits."""
        if not self._lines:
            raise IndexError("nobody waits")
        key = next(iter(self._lines))
        line = self._lines.pop(key)
        item = line.popleft()
        if line:
            self._lines[key] = line
        return item

    def discard(self, key: str, item: T) -> None:
        """Whoever is not in it any more stays so."""
        line = self._lines.get(key)
        if line is None or item not in line:
            return
        line.remove(item)
        if not line:
            del self._lines[key]
