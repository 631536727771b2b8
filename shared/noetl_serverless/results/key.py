"""Whether what a result store is given can be stored."""

from __future__ import annotations

import os


def checked_key(key: str) -> str:
    """ValueError for one that would leave the store."""
    if not {"", ".", ".."}.isdisjoint(key.split("/")) or "\0" in key:
        raise ValueError(f"not a storage key: {key!r}")
    return key


def check_size(file: int, size: int) -> None:
    """EOFError if the open file has fewer bytes."""
    if (there := os.fstat(file).st_size) < size:
        raise EOFError(f"the file ends after {there} of {size} bytes")
