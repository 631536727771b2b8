"""Errors of steps, loop items and executions, kept within their maximum size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..limits import ERROR_BYTES
from .limits import size_of

# what is kept of an error that is too large
BRIEF_FIELDS = ("kind", "code", "retryable", "at", "index", "execution_id")
BRIEF_BYTES = 512
MAX_BRIEF_CHARACTERS = 2000
MAX_LISTED_CHARACTERS = 300


def bounded(error: dict[str, Any]) -> dict[str, Any]:
    """An error that is too large keeps only its main fields, and those of its cause, but not the cause of the cause."""
    if size_of(error) <= ERROR_BYTES:
        return error
    cause = error.get("cause")
    return {**_brief(error), **({"cause": _brief(cause)} if isinstance(cause, dict) else {})}


def brief(error: Mapping[str, Any]) -> dict[str, Any]:
    """Its code and message, cut if they are long, for a list of errors."""
    return {name: str(error[name])[:MAX_LISTED_CHARACTERS] for name in ("code", "message") if error.get(name)}


def _brief(error: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: error[name] for name in BRIEF_FIELDS if name in error and size_of(error[name]) <= BRIEF_BYTES}
    return {**kept, "message": str(error.get("message", ""))[:MAX_BRIEF_CHARACTERS], "truncated": True}
