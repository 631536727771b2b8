"""Relay connections: pages of a list, and opaque cursors to continue from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InvalidRequest
from .body_budget import ListBudget

MAX_PAGE_ROWS = 100


def page_size(first: int | None, default: int) -> int:
    size = default if first is None else first
    if not 1 <= size <= MAX_PAGE_ROWS:
        raise InvalidRequest(f"'first' must be from 1 to {MAX_PAGE_ROWS}, not {size}")
    return size


def encode_cursor(kind: str, position: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str) -> str:
    """The place in it; InvalidRequest if it is not a cursor of this kind."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        found_kind, _, position = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        found_kind, position = "", ""
    if found_kind != kind or not position:
        raise InvalidRequest(f"'after' is not a cursor of this list: {cursor[:80]!r}")
    return position


def decode_number(kind: str, cursor: str) -> int:
    position = decode_cursor(kind, cursor)
    if not (position.isascii() and position.isdigit() and len(position) < 20):
        raise InvalidRequest(f"'after' is not a cursor of this list: {cursor[:80]!r}")
    return int(position)


def connection(
    rows: Sequence[dict[str, Any]],
    size: int,
    cursor: Callable[[int, dict[str, Any]], str],
    *,
    after: str | None,
    budget: ListBudget,
    more: bool = False,
) -> dict[str, Any]:
    """The first `size` of `rows` as a connection, as far as `budget` allows. `more`, or more rows in `rows`, means that
    there is a next page. A page without rows continues where it began."""
    nodes = budget.take(rows[:size])
    more = more or len(nodes) < len(rows)
    edges = [{"cursor": cursor(index, node), "node": node} for index, node in enumerate(nodes)]
    return {
        "edges": edges,
        "nodes": nodes,
        "page_info": {
            "has_next_page": more,
            "has_previous_page": after is not None,
            "start_cursor": edges[0]["cursor"] if edges else None,
            "end_cursor": edges[-1]["cursor"] if edges else after if more else None,
        },
    }
