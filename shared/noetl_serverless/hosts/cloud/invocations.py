"""How many invocations a notification is worth."""

from __future__ import annotations

import math
from typing import Any


def copies_of(message: dict[str, Any], per_invocation: int, limit: int) -> int:
    """One for each `per_invocation` of the commands that wait, so that more instances start if the pool's limit allows,
    and at most `limit`. Takes `waiting`, their number, out of the message."""
    return min(limit, math.ceil(message.pop("waiting", 1) / max(1, per_invocation))) or 1
