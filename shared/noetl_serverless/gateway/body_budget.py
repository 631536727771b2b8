"""The bytes that the lists of one operation may bring, all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from ..limits import PAGE_BYTES

# lists that are fetched at once: each may bring a page
MAX_CONCURRENT_LISTS = 4


class BodyBudget:
    """Lists come as they are asked for, and end where there is no room left for their next row. What comes first has
    one row at least."""

    def __init__(self, most: int = PAGE_BYTES) -> None:
        self._left = most
        self._untouched = True
        self._permits = asyncio.Semaphore(MAX_CONCURRENT_LISTS)

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """For as long as a list is on its way."""
        async with self._permits:
            yield

    def take(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first of `rows`, as many as there is room for."""
        kept: list[dict[str, Any]] = []
        for row in rows:
            size = len(orjson.dumps(row, default=str))
            if size > self._left and not self._untouched:
                # what is left is not for smaller rows behind it, or of other lists
                self._left = 0
                break
            self._left -= size
            self._untouched = False
            kept.append(row)
        return kept
