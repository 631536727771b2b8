"""What waits, waits for what it needs to see, and not for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# far more than anything takes, on a machine that is busy with something else, too
PATIENCE_SECONDS = 60.0


async def eventually(condition: Callable[[], object], pause: float = 0.005) -> None:
    """Returns once `condition` gives something true; raises TimeoutError if it does not, for a minute."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(pause)
