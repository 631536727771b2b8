"""The words for a value that is too small, too large, too short or too long, of an error of pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("this must be at least", "ge"),
    "less_than_equal": ("this must be at most", "le"),
    "greater_than": ("this must be more than", "gt"),
    "less_than": ("this must be less than", "lt"),
}
# each with its bound, and what it counts
_LENGTHS: Final[Mapping[str, tuple[str, str, str]]] = {
    "string_too_short": ("least", "min_length", "character"),
    "string_too_long": ("most", "max_length", "character"),
    "too_short": ("least", "min_length", "entry"),
    "too_long": ("most", "max_length", "entry"),
}
# keys whose value is a time
_TIMES: Final = frozenset(
    {
        *("timeout", "connect", "read", "total", "ttl", "per", "delay", "max_delay", "for", "within"),
        *("max_seconds", "lease_seconds", "heartbeat_seconds", "max_billed_seconds"),
    }
)
_DAY: Final = 86_400


def bound_text(kind: str, context: Mapping[str, Any], key: str | int | None = None) -> str | None:
    """None for errors of any other kind. `key`: of the value, if its bound is to be given as a time where it is one."""
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        bound = context[name]
        if key in _TIMES and bound >= _DAY:
            return f"{words} {_time(bound)}"
        return f"{words} {int(bound) if isinstance(bound, float) and bound.is_integer() else bound}"
    if kind in _LENGTHS:
        return _length(*_LENGTHS[kind], context)
    return None


def _time(seconds: float) -> str:
    """A number of seconds is read badly from a day on."""
    days = seconds / _DAY
    return f"{days:g} day{'' if days == 1 else 's'}"


def _length(limit: str, name: str, noun: str, context: Mapping[str, Any]) -> str:
    length = int(context[name])
    if limit == "least" and length == 1:
        return "this must not be empty"
    plural = "entries" if noun == "entry" else f"{noun}s"
    return f"this must have at {limit} {length} {noun if length == 1 else plural}"
