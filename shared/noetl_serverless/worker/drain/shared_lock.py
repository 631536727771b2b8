"""A lock that many hold at once, or one exclusively."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    def __init__(self) -> None:
        self._holders = 0
        self._exclusive = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        if not self.enter_now():
            async with self._exclusive:
                self._enter()
        try:
            yield
        finally:
            self.leave()

    def enter_now(self) -> bool:
        """Hold it together with others until `leave`, unless somebody holds it or waits for it exclusively."""
        if self._exclusive.locked():
            return False
        self._enter()
        return True

    def leave(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._empty.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        async with self._exclusive:
            await self._empty.wait()
            yield

    def _enter(self) -> None:
        self._holders += 1
        self._empty.clear()
