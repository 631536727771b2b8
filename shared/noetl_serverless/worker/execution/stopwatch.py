"""How long a command ran, without the time in which all of it was waiting for a next attempt or in a queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager


class _OnEnterExit(AbstractContextManager[None]):
    """Calls `begin` and `end` around a block; may be entered any number of times at once."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin = begin
        self._end = end

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end()


class Stopwatch:
    """Runs from its creation, and is stopped while every activity of the command waits."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun = clock()
        self._running = 1
        self._paused_since = 0.0
        self._waited = 0.0
        self._while_paused = _OnEnterExit(self._pause, self._resume)
        self._while_running = _OnEnterExit(self._resume, self._pause)

    def paused(self) -> AbstractContextManager[None]:
        """One running activity waits: for a delay to pass, or for others that it has begun."""
        return self._while_paused

    def running(self) -> AbstractContextManager[None]:
        """One more activity runs."""
        return self._while_running

    @property
    def waited(self) -> float:
        """Seconds."""
        return self._waited + (0.0 if self._running else self._clock() - self._paused_since)

    @property
    def ran(self) -> float:
        """Seconds."""
        return self._clock() - self._begun - self.waited

    def _pause(self) -> None:
        self._running -= 1
        if not self._running:
            self._paused_since = self._clock()

    def _resume(self) -> None:
        if not self._running:
            self._waited += self._clock() - self._paused_since
        self._running += 1
