"""How long a retry waits."""

from __future__ import annotations

from ..playbook.plan import Rule


def backoff(rule: Rule, attempt: int) -> float:
    """Seconds to wait after the attempt of that number, counted from 1."""
    match rule.backoff:
        case "none":
            return 0.0
        case "fixed":
            return rule.delay
        case "linear":
            return rule.delay * attempt
        case "exponential":
            # beyond a day it makes no difference, and 2**n ends somewhere
            return min(rule.delay * 2.0 ** min(attempt - 1, 60), 86_400.0)
