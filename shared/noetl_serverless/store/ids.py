"""Ids that sort by the time they were made: 63 bits, milliseconds since 2024 above 22 random bits."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta

from ..engine.ids import EPOCH_MS, LOW_BITS

EPOCH = datetime.fromtimestamp(EPOCH_MS / 1000, UTC)


def new_id(now_ms: int, entropy: int) -> int:
    """The id of `now_ms` (milliseconds since 1970) and the low 22 bits of `entropy`."""
    return (now_ms - EPOCH_MS) << LOW_BITS | entropy & (1 << LOW_BITS) - 1


def first_id(at: datetime) -> int:
    """The lowest id of the millisecond of `at`, limited to the range of ids."""
    return min(max((at - EPOCH) // timedelta(milliseconds=1) << LOW_BITS, 0), (1 << 63) - 1)


def fresh_id() -> int:
    """A new id of the current time."""
    return new_id(time.time_ns() // 1_000_000, secrets.randbits(LOW_BITS))


def parse_id(text: str) -> int | None:
    """The id that a caller wrote in decimal, or None if it is not an id."""
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    number = int(text)
    return number if number < 1 << 63 else None
