"""The time between two attempts, as Cloud Tasks and Cloud Scheduler count it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds."""

    minimum: float
    maximum: float
    doublings: int

    def before_retry(self, number: int) -> float:
        """Doubles, then grows by what the last doubling has reached, up to the maximum. The first retry is 1."""
        doubled = min(number - 1, self.doublings)
        return min(self.minimum * float(2**doubled) * (number - doubled), self.maximum)
