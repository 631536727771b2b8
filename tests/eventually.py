"""What waits, waits for what it needs to see, and not for a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from pg8000.exceptions import DatabaseError, InterfaceError

from noetl_serverless.errors import Unavailable
from noetl_serverless.store.connection import connect

# far more than anything takes, on a machine that is busy with something else, too
PATIENCE_SECONDS = 60.0


async def eventually(condition: Callable[[], object], pause: float = 0.005) -> None:
    """Returns once `condition` gives something true; raises TimeoutError if it does not, for a minute."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(pause)


async def in_few_turns(condition: Callable[[], object]) -> None:
    """As `eventually`, but looks after each turn of the event loop: for what waits for nothing outside of it."""
    await eventually(condition, pause=0)


def while_progressing(progress: Callable[[], object], seconds: float) -> Callable[[], bool]:
    """Whether to wait on: until `progress` has given the same, or None, for `seconds`."""
    seen, until = progress(), time.monotonic() + seconds

    def lasts() -> bool:
        nonlocal seen, until
        if time.monotonic() < until:
            return True
        before, seen, until = seen, progress(), time.monotonic() + seconds
        return seen is not None and seen != before

    return lasts


def committed(database_url: str) -> int | None:
    """How many events there are; None while the database is away."""
    try:
        with contextlib.closing(connect(database_url)) as database:
            return int(database.run("SELECT coalesce(sum(head), 0)::bigint FROM noetl.execution")[0][0])
    except (Unavailable, DatabaseError, InterfaceError, OSError):
        return None
