"""What pydantic finds wrong with a value, in plain words. Never the value itself, which may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..playbook.bound_text import bound_text

_TIME = "a time such as 2026-05-01T08:00Z"
_KINDS: Final[Mapping[str, str]] = {
    "string": "a string",
    "int": "an integer",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "dataclass": "an object",
    "list": "a list",
    "datetime": _TIME,
    "datetime_from_date": _TIME,
    "date": "a date such as 2026-05-01",
    "timezone_aware": "a time with its offset from UTC, such as 2026-05-01T08:00Z or 2026-05-01T08:00+02:00",
}
# how the types of these errors end: int_type, int_parsing, int_from_float
_SUFFIXES: Final = ("_type", "_parsing", "_from_float")


def text_of(detail: Mapping[str, Any], patterns: Mapping[str, str] | None = None) -> str:
    """`detail`: one of the errors of a ValidationError, with its context. `patterns`: what a pattern asks for."""
    kind, message = str(detail["type"]), str(detail["msg"])
    context: Mapping[str, Any] = detail.get("ctx") or {}
    if kind == "missing":
        return "this is required"
    if (text := bound_text(kind, context)) is not None:
        return text
    if kind in ("literal_error", "enum"):
        allowed = [part.strip("' ") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        return f"this must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        rule = (patterns or {}).get(pattern)
        return f"this must be {rule}" if rule is not None else f"this does not match the pattern {pattern}"
    for suffix in _SUFFIXES:
        if (expected := _KINDS.get(kind.removesuffix(suffix))) is not None:
            return f"this must be {expected}"
    if kind == "json_invalid":
        return f"this is not JSON: {context['error']}"
    return message.removeprefix("Value error, ").replace("Input should", "this must", 1)
