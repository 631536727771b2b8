"""Errors of the database, and of encoding for it, that are due to a value a caller sent."""

from __future__ import annotations

import logging

import orjson

from ..errors import InvalidRequest
from .connection import sqlstate

logger = logging.getLogger(__name__)

# PostgreSQL's errors for NUL in text and in jsonb, and for numbers out of range
UNSTORABLE_SQLSTATES = frozenset({"22021", "22P05", "22003"})
# words of orjson's messages about numbers out of range and about half of a surrogate pair
UNENCODABLE_REASONS = ("64-bit", "surrogates")


def refusal_of(error: Exception) -> Exception:
    """InvalidRequest if a value that the caller sent cannot be stored; else the error itself."""
    # orjson.JSONEncodeError is plain TypeError, which may also be a mistake of ours
    unwritable = isinstance(error, orjson.JSONEncodeError) and any(
        reason in str(error) for reason in UNENCODABLE_REASONS
    )
    if unwritable or sqlstate(error) in UNSTORABLE_SQLSTATES:
        # without the database's message, which may show the value
        logger.warning("a value cannot be stored: %s", sqlstate(error) or error)
        return InvalidRequest(
            "a number has more than 64 bits, or a string contains a NUL character or an unpaired surrogate"
        )
    return error
