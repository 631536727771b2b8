"""Errors of steps, loop items and executions, kept within what one may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..limits import ERROR_BYTES
from .limits import size_of

# of an error that is too large
BRIEF_FIELDS = ("kind", "code", "retryable", "at", "index", "execution_id")
BRIEF_BYTES = 512
MAX_BRIEF_CHARACTERS = 2000


def bounded(error: dict[str, Any]) -> dict[str, Any]:
    """One that is too large keeps what tells most, and as much of its cause, but not of what that was caused by."""
    if size_of(error) <= ERROR_BYTES:
        return error
    cause = error.get("cause")
    return {**_brief(error), **({"cause": _brief(cause)} if isinstance(cause, dict) else {})}


def _brief(error: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: error[name] for name in BRIEF_FIELDS if name in error and size_of(error[name]) <= BRIEF_BYTES}
    return {**kept, "message": str(error.get("message", ""))[:MAX_BRIEF_CHARACTERS], "truncated": True}
