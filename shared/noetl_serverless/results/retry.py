"""A result store that is away for a while is waited for: what a tool has done is not given up for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import Problem, Unavailable

T = TypeVar("T")

# seconds until the store counts as failed: a disk that somebody clears, a mount that comes back
PATIENCE = 60.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class StoreFailed(Problem):
    status, code, title = 503, "result_store", "The result store does not answer"


async def patiently(do: Callable[[], Awaitable[T]], what: str) -> T:
    """`do`, again until it succeeds; StoreFailed, with `what`, when the store has been away for PATIENCE seconds."""
    clock = asyncio.get_running_loop().time
    until = clock() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        try:
            return await do()
        except (OSError, Unavailable) as error:
            if clock() + pause > until:
                raise StoreFailed(f"{what}: {error}") from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
