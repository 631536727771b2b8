"""A time on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from .failure import WrongUse

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def ago(text: str, option: str) -> datetime:
    """`90m`, `12h`, `7d`, `2w` before now; WrongUse for anything else."""
    if (found := _ago(text)) is None:
        raise WrongUse(f"{option} {text!r}: expected a duration such as 90m, 12h, 7d or 2w")
    return found


def instant(text: str, option: str) -> datetime:
    """An age as in `ago`, or a date with or without a time, in local time unless it has an offset."""
    if (found := _ago(text)) is not None:
        return found
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        message = f"{option} {text!r}: expected a time such as 90m, 7d, 2026-05-01 or 2026-05-01T08:00"
        raise WrongUse(message) from None


def _ago(text: str) -> datetime | None:
    match = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if match is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return datetime.fromtimestamp(0, UTC)
