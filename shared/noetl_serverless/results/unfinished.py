"""Writes to a result store that go on while the next step runs, in this process.

Until such a write has ended, nothing that is committed names its object; a step that follows here may read it before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..ports import StoredObject

Write = Callable[[], Awaitable[StoredObject]]
# takes over the write of the object with this key
BeginWrite = Callable[[str, Write], object]


class UnfinishedWrites:
    """By key, whichever command they are of."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[StoredObject]] = {}

    def begin(self, key: str, write: Write) -> asyncio.Task[StoredObject]:
        task = asyncio.ensure_future(write())
        assert isinstance(task, asyncio.Task)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    async def wait(self, key: str) -> None:
        """Until none of this key is under way, however it ends."""
        while (task := self._tasks.get(key)) is not None:
            await asyncio.wait([task])

    def _ended(self, key: str, task: asyncio.Task[StoredObject]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
