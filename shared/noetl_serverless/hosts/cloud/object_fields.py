"""Fields of what a cloud says of an object that was written, each of any type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """Empty for what is none."""
    return value if isinstance(value, dict) else {}


def instant(text: Any) -> datetime | None:
    """Of RFC 3339; None for what is none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
