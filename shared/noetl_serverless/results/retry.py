"""Waits for a result store that is away for a while, so that the work of a tool is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import Problem, Unavailable

T = TypeVar("T")

# seconds until the store counts as failed: time to free a full disk, or for a mount to come back
MAX_WAIT_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0


class StoreFailed(Problem):
    status, code, title = 503, "result_store.unavailable", "The result store does not answer"


async def retry_while_away(operation: Callable[[], Awaitable[T]], failure: str) -> T:
    """Run `operation` until it succeeds; raises StoreFailed, with `failure`, when the store was away for
    MAX_WAIT_SECONDS."""
    clock = asyncio.get_running_loop().time
    until = clock() + MAX_WAIT_SECONDS
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await operation()
        except (OSError, Unavailable) as error:
            if clock() + pause > until:
                raise StoreFailed(f"{failure}: {error}") from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
