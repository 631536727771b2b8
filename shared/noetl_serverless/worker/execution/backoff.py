"""How long a retry waits."""

from __future__ import annotations

from ...limits import DELAY_SECONDS
from ...playbook.plan import Rule


def backoff(rule: Rule, attempt: int) -> float:
    """Seconds to wait after the attempt of that number, counted from 1."""
    return min(_wait(rule, attempt), DELAY_SECONDS)


def _wait(rule: Rule, attempt: int) -> float:
    match rule.backoff:
        case "none":
            return 0.0
        case "fixed":
            return rule.delay
        case "linear":
            return rule.delay * attempt
        case "exponential":
            # at most a day; the exponent is limited because 2.0**n overflows
            return min(rule.delay * 2.0 ** min(attempt - 1, 60), 86_400.0)
