"""A limit on the bytes of all lists of one operation together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from ..limits import PAGE_BYTES

# lists that are fetched at once; each may be as large as a page
MAX_CONCURRENT_LISTS = 4


class ListBudget:
    """Each list ends where its next row would exceed the budget. The first row of all is always kept."""

    def __init__(self, limit: int = PAGE_BYTES) -> None:
        self._remaining = limit
        self._is_empty = True
        self._permits = asyncio.Semaphore(MAX_CONCURRENT_LISTS)

    @property
    def is_spent(self) -> bool:
        return self._remaining <= 0

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """Held while a list is fetched."""
        async with self._permits:
            yield

    def take(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first of `rows`, as many as fit into the budget."""
        kept: list[dict[str, Any]] = []
        for row in rows:
            size = len(orjson.dumps(row, default=str))
            if size > self._remaining and not self._is_empty:
                # the rest is not used for smaller rows that follow, nor for other lists
                self._remaining = 0
                break
            self._remaining -= size
            self._is_empty = False
            kept.append(row)
        return kept
