"""What a function asks of the laptop it runs on."""

from __future__ import annotations


class LocalHost:
    """Nothing ends an invocation here; each is given the same time, so that it behaves as it would on a cloud."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining(self) -> float:
        return self._seconds
