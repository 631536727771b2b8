"""Numbers as authors write them: as such, as text, or, for a time, with its units."""

from __future__ import annotations

import re
from typing import Any, Final

# of one call, in seconds: a day
LONGEST_TIMEOUT: Final = 86_400
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)\s*")
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_WHOLE: Final = re.compile(r"[+-]?\d{1,15}")


def seconds(value: Any) -> float:
    """Of a number, or of a text such as "30", "1.5s", "500ms" or "1h30m"; raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not value >= 0:
            raise ValueError("a time cannot be negative")
        return float(value)
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a time: write a number of seconds, or 500ms, 30s, 5m, 1h30m, 2d")
    text = value.strip() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at = 0.0, 0
    while (part := _PART.match(text, at)) is not None:
        total, at = total + float(part[1]) * _UNITS[part[2]], part.end()
    if not text or at < len(text):
        raise ValueError(f"{value!r:.60} is not a time: write a number of seconds, or 500ms, 30s, 5m, 1h30m, 2d")
    return total


def no_boolean(value: Any) -> Any:
    """The value, unless it is true or false, which pydantic takes for 1 and 0 unless it is strict; raises
    ValueError."""
    if isinstance(value, bool):
        raise ValueError("this must be a number of seconds, not true or false")
    return value


def timeout(value: Any) -> float:
    """As `seconds`, and within the bounds of a timeout; raises ValueError."""
    found = seconds(value)
    if not 0 < found <= LONGEST_TIMEOUT:
        raise ValueError(f"a timeout must be more than 0 s and at most {LONGEST_TIMEOUT} s, not {found:g} s")
    return found


def whole(value: Any) -> int:
    """Of an integer, or of its text; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    raise ValueError(f"{value!r:.60} is not an integer")
