"""How long a retry waits."""

from __future__ import annotations

from typing import Literal

from ...limits import DELAY_SECONDS

Backoff = Literal["none", "fixed", "linear", "exponential"]


def backoff(kind: Backoff, delay: float, attempt: int, *, longest: float | None = None) -> float:
    """Seconds to wait after the attempt of that number, counted from 1; `delay` is the first wait."""
    return min(_wait(kind, delay, attempt), DELAY_SECONDS if longest is None else min(longest, DELAY_SECONDS))


def _wait(kind: Backoff, delay: float, attempt: int) -> float:
    match kind:
        case "none":
            return 0.0
        case "fixed":
            return delay
        case "linear":
            return delay * attempt
        case "exponential":
            # at most a day; the exponent is limited because 2.0**n overflows
            return min(delay * 2.0 ** min(attempt - 1, 60), 86_400.0)
