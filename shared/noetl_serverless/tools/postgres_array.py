"""Lists in the text form of PostgreSQL's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from .encoding import encode


def array_text(values: Sequence[Any]) -> str:
    """The array; lists inside are further dimensions, objects are JSON. Every text is quoted, "null" too."""
    return "{" + ",".join(map(_element, values)) + "}"


def listed(value: Any) -> Any:
    """The list that a text is in JSON, as an array is in a table that went through pandas or polars; any other value as
    it is. What PostgreSQL writes of an array is no JSON."""
    if not isinstance(value, str) or not value.startswith("["):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return array_text(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)):
        return repr(value)
    text = encode(value).decode() if isinstance(value, dict) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
