"""Bytes for columns of PostgreSQL, from the texts that JSON has of them."""

from __future__ import annotations

import base64
from typing import Any, Final

from pg8000 import converters

from .postgres_array import listed

BYTEA: Final = converters.BYTES
BYTEA_ARRAY: Final = converters.BYTES_ARRAY

_RULE: Final = r"the column is bytea, and takes base64, or hex after \x"


class NotBytes(ValueError):
    """A value that a column of bytes cannot have. It is not in the message: it may be secret. `row`: in what was
    converted."""

    def __init__(self, message: str, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


def bytea_text(value: Any) -> str | None:
    r"""The text that PostgreSQL reads as the bytes: hex after \x. Raises NotBytes."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if not isinstance(value, str):
        raise NotBytes(f"{_RULE}: this is a value of type {type(value).__name__}")
    try:
        if value.startswith("\\x"):
            found = bytes.fromhex(value[2:])
        else:
            # encode(..., 'base64') of PostgreSQL breaks lines
            found = base64.b64decode("".join(value.splitlines()), validate=True)
    except ValueError:
        raise NotBytes(f"{_RULE}: this text is neither") from None
    return f"\\x{found.hex()}"


def bytea_array(value: Any) -> Any:
    """The same in an array, which is a list, a text of one in JSON, or as PostgreSQL writes it."""
    found = listed(value)
    return _items(found) if isinstance(found, (list, tuple)) else value


def _items(value: Any) -> Any:
    return list(map(_items, value)) if isinstance(value, (list, tuple)) else bytea_text(value)


def at_place(error: NotBytes, row: int, column: str) -> NotBytes:
    return NotBytes(f"row {row} (counted from 0), column {column!r:.200}: {error}")
