"""How long a request may still run."""

from __future__ import annotations


class HttpHost:
    """An HTTP server is not told how much of a request's time is left: each is given the same."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining(self) -> float:
        return self._seconds
