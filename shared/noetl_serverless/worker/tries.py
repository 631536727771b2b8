"""A call that is tried again until it is answered."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 2.0


class TryFailed(Exception):
    """One try failed and may be repeated. `reached`: whether it may have taken effect; `status`: of the HTTP answer, if
    there was one."""

    def __init__(self, reason: str, *, reached: bool, status: int | None = None) -> None:
        super().__init__(reason)
        self.reached = reached
        self.status = status


async def until_answered(
    once: Callable[[float], Awaitable[T]], timeout: float, max_tries: int | None = None
) -> tuple[T, bool]:
    """What `once` returns, and whether an earlier try may have taken effect. `once` takes the seconds that are left.
    `max_tries`: how many may take effect at most. Raises Unavailable, and what `once` raises beside TryFailed."""
    deadline = time.monotonic() + timeout
    doubtful = False
    pause = FIRST_PAUSE_SECONDS
    tries = 0
    while True:
        try:
            return await once(deadline - time.monotonic()), doubtful
        except TryFailed as failed:
            doubtful |= failed.reached
            tries += failed.reached
            failure = failed
        wait = pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
        if time.monotonic() + wait >= deadline or tries == max_tries:
            raise Unavailable(
                f"the control plane does not answer: {failure}", doubtful=doubtful, answered=failure.status
            )
        logger.info("trying again: %s", failure)
        await asyncio.sleep(wait)
