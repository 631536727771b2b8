"""For how long a command ran, without the time in which all of it only waited: for its next attempt, or its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """It runs from the start, and stands still while nothing that was begun is awake."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun = clock()
        self._awake = 1
        self._asleep_since = 0.0
        self._waited = 0.0

    @contextmanager
    def resting(self) -> Iterator[None]:
        """One of those that are awake waits: for a delay to pass, or for others that it has begun."""
        self._fall_asleep()
        try:
            yield
        finally:
            self._wake()

    @contextmanager
    def working(self) -> Iterator[None]:
        """One more is awake."""
        self._wake()
        try:
            yield
        finally:
            self._fall_asleep()

    @property
    def waited(self) -> float:
        """Seconds."""
        return self._waited + (0.0 if self._awake else self._clock() - self._asleep_since)

    @property
    def ran(self) -> float:
        """Seconds."""
        return self._clock() - self._begun - self.waited

    def _fall_asleep(self) -> None:
        self._awake -= 1
        if not self._awake:
            self._asleep_since = self._clock()

    def _wake(self) -> None:
        if not self._awake:
            self._waited += self._clock() - self._asleep_since
        self._awake += 1
