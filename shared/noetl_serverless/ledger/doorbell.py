"""After a commit: tell the bus which commands wait, and ring their workers. Both are hints that may get lost."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from ..errors import Unavailable
from ..ports import Invoker, Notifier
from ..protocol import CommandKey
from ..telemetry import metrics

logger = logging.getLogger(__name__)


class Doorbell:
    """`background`: answer first and tell afterwards, where the host lets a function go on after its answer.

    `alarm` is the function that is rung when a timer is due, where its own schedule would come too late.
    """

    def __init__(
        self,
        notifier: Notifier | None,
        invoker: Invoker | None,
        background: bool = True,
        alarm: str | None = None,
    ) -> None:
        self._notifier = notifier
        self._invoker = invoker
        self._background = background
        self._alarm = alarm
        self._tasks: set[asyncio.Task[None]] = set()

    async def ring(self, waiting: Sequence[tuple[str, CommandKey]]) -> None:
        if not waiting:
            return
        pools: defaultdict[str, list[CommandKey]] = defaultdict(list)
        for pool, key in waiting:
            pools[pool].append(key)
        telling = asyncio.gather(*(self._tell(pool, keys) for pool, keys in pools.items()))
        if not self._background:
            await telling
            return
        task = asyncio.ensure_future(_finish(telling))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sweep(self, pool: str) -> None:
        """Ring a pool's worker to look for whatever waits, for commands whose notification may be lost."""
        if self._invoker is not None:
            await self._invoker.invoke(pool, {"pool": pool, "sweep": True})

    async def archive(self, pool: str) -> None:
        """Ring a pool's worker to write what waits for the archive."""
        if self._invoker is not None:
            await self._invoker.invoke(pool, {"pool": pool, "archive": True})

    async def wake(self, delay: float) -> None:
        """Ring for a timer that is due in `delay` seconds."""
        if self._invoker is not None and self._alarm is not None:
            await self._invoker.invoke(self._alarm, {}, max(0.0, delay))

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _tell(self, pool: str, keys: Sequence[CommandKey]) -> None:
        payload: dict[str, object] = {"pool": pool, "waiting": len(keys)}
        if self._notifier is not None:
            try:
                await self._notifier.publish(pool, keys)
                metrics.hints.labels("notification", "sent").inc()
            except Unavailable as error:
                logger.warning("the bus does not point to %d commands: %s", len(keys), error)
                payload["sweep"] = True
                metrics.hints.labels("notification", "given up").inc()
        if self._invoker is not None:
            await self._invoker.invoke(pool, payload)
            metrics.hints.labels("ring", "sent").inc()


async def _finish(telling: asyncio.Future[list[None]]) -> None:
    await telling
