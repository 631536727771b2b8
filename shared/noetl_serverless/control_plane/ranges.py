"""Requests for a part of a content (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..errors import Problem

_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE)


class RangeNotSatisfiable(Problem):
    status, code, title = 416, "request.range", "There is no such part of the content"

    def __init__(self, size: int) -> None:
        super().__init__(f"the content has {size} bytes, and the range begins after its end", bytes=size)


def requested_range(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """(first byte, byte after the last) of the part that is requested; None for all of the content, also where several
    parts are requested, or a part of another version. Raises RangeNotSatisfiable."""
    if (condition := headers.get("if-range")) is not None and condition != etag:
        return None
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if not int(last) or not size:
            raise RangeNotSatisfiable(size)
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable(size)
    return int(first), min(size, int(last) + 1) if last else size
