"""After a commit: publish which commands wait, and invoke their workers. Both are hints that may get lost."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..errors import Unavailable
from ..ports import Invoker, Notifier
from ..protocol import CommandKey
from ..telemetry import metrics

logger = logging.getLogger(__name__)

# up to this many commands are named in the invocation itself: an idle worker claims them without waiting for the bus
MAX_NAMED_COMMANDS = 8


class Notifications:
    """`background`: respond first and notify afterwards, where the host lets a function continue after its response.

    `alarm` is the function that is invoked when a timer is due, where its own schedule would come too late.
    """

    def __init__(
        self,
        notifier: Notifier | None,
        invoker: Invoker | None,
        after_response: bool = True,
        timer_function: str | None = None,
    ) -> None:
        self._notifier = notifier
        self._invoker = invoker
        self._after_response = after_response
        self._timer_function = timer_function
        self._tasks: set[asyncio.Task[None]] = set()

    async def notify(self, pending: Sequence[tuple[str, CommandKey]]) -> None:
        if not pending:
            return
        pools: defaultdict[str, list[CommandKey]] = defaultdict(list)
        for pool, key in pending:
            pools[pool].append(key)
        sending = asyncio.gather(*(self._notify_pool(pool, keys) for pool, keys in pools.items()))
        if not self._after_response:
            await sending
            return
        task = asyncio.ensure_future(_finish(sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def request_sweep(self, pool: str) -> None:
        """Invoke a pool's worker to look for pending commands, whose notifications may have been lost."""
        if self._invoker is not None:
            await self._invoker.invoke(pool, {"pool": pool, "sweep": True})

    async def request_archive(self, pool: str) -> None:
        """Invoke a pool's worker to write the batches that wait for the archive."""
        if self._invoker is not None:
            await self._invoker.invoke(pool, {"pool": pool, "archive": True})

    async def schedule_wakeup(self, delay: float) -> None:
        """Invoke the timer function for a timer that is due in `delay` seconds."""
        if self._invoker is not None and self._timer_function is not None:
            await self._invoker.invoke(self._timer_function, {}, max(0.0, delay))

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _notify_pool(self, pool: str, keys: Sequence[CommandKey]) -> None:
        invocation: dict[str, Any] = {"pool": pool, "waiting": len(keys)}
        if len(keys) <= MAX_NAMED_COMMANDS:
            named = {**invocation, "commands": [key.model_dump() for key in keys]}
            _, published = await asyncio.gather(self._invoke(pool, named), self._publish(pool, keys))
            if published:
                return
        else:
            # the bus first: a worker that came too early would find nothing and stop
            published = await self._publish(pool, keys)
        await self._invoke(pool, invocation if published else {**invocation, "sweep": True})

    async def _publish(self, pool: str, keys: Sequence[CommandKey]) -> bool:
        """Whether the bus has the pointers; also True if there is no bus."""
        if self._notifier is None:
            return True
        try:
            await self._notifier.publish(pool, keys)
        except Unavailable as error:
            logger.warning("%d commands could not be published to the bus: %s", len(keys), error)
            metrics.notifications.labels("bus", "given up").inc()
            return False
        metrics.notifications.labels("bus", "sent").inc()
        return True

    async def _invoke(self, pool: str, payload: dict[str, Any]) -> None:
        if self._invoker is not None:
            await self._invoker.invoke(pool, payload)
            metrics.notifications.labels("invocation", "sent").inc()


async def _finish(sending: asyncio.Future[list[None]]) -> None:
    await sending
