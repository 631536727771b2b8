"""Lookups of the same key at the same time share one query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedLookups(Generic[Key, Value]):
    """For one event loop. A lookup never gets the answer to a query that began before it, which may be older than what
    its caller has just written: it waits for the next one, together with all who come meanwhile."""

    def __init__(self, query: Callable[[Key], Awaitable[Value]]) -> None:
        self._query = query
        # the keys with a query under way -> those who wait for the next one
        self._waiting: dict[Key, list[asyncio.Future[Value]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Value:
        """Raises what the query raises."""
        if (waiting := self._waiting.get(key)) is not None:
            answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
            waiting.append(answer)
            return await answer
        self._waiting[key] = []
        try:
            return await self._query(key)
        finally:
            self._next(key)

    def _next(self, key: Key) -> None:
        waiting = [answer for answer in self._waiting.pop(key) if not answer.done()]
        if not waiting:
            return
        self._waiting[key] = []
        task = asyncio.create_task(self._answer(key, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, key: Key, waiting: list[asyncio.Future[Value]]) -> None:
        try:
            value = await self._query(key)
        except Exception as error:
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for answer in waiting:
                if not answer.done():
                    answer.set_result(value)
        finally:
            for answer in waiting:
                answer.cancel()
            self._next(key)
