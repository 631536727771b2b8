"""How long a drain may still run."""

from __future__ import annotations

import time
from collections.abc import Callable

# reserved for releasing unfinished work and reporting it
MAX_RESERVE_SECONDS = 10.0
# how long commands may continue after the worker was asked to stop
GRACE_SECONDS = 5.0


class TimeBudget:
    """Open, then closing (nothing new begins), then over (commands that still run are cancelled and released)."""

    def __init__(
        self, seconds: float, *, grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._grace = grace
        self._start = clock()
        reserve = min(MAX_RESERVE_SECONDS, seconds / 5)
        self._end = self._start + seconds
        self._closes = self._end - reserve
        self._over = self._end - reserve / 2
        self._stopped = False

    @property
    def is_closing(self) -> bool:
        return self._stopped or self._clock() >= self._closes

    @property
    def is_over(self) -> bool:
        return self._clock() >= self._over

    @property
    def is_stopped(self) -> bool:
        """Stopped on request, rather than out of time."""
        return self._stopped

    @property
    def run_time(self) -> float:
        """Seconds that a command may run if it begins with the drain."""
        return self._over - self._start

    def until_closing(self) -> float:
        return 0.0 if self._stopped else max(0.0, self._closes - self._clock())

    def until_over(self) -> float:
        return max(0.0, self._over - self._clock())

    def left(self) -> float:
        """Seconds until the very end, of which the last are for reporting."""
        return max(0.0, self._end - self._clock())

    def stop(self) -> None:
        """Close now; be over after the grace period."""
        self._stopped = True
        now = self._clock()
        self._over = min(self._over, now + self._grace)
        self._end = min(self._end, self._over + max(1.0, self._grace))
