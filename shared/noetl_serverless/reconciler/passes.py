"""The reconciler's passes, as its function runs them: one at a time, counted, and followed by another while one was not
enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..telemetry import metrics
from .reconciler import MAX_ITEMS, Reconciler


class Passes:
    """`request_another` is for a host whose next tick is far away."""

    def __init__(self, reconciler: Reconciler, request_another: Callable[[], Awaitable[object]] | None = None) -> None:
        self._reconciler = reconciler
        self._request_another = request_another
        self._under_way = asyncio.Lock()
        self._next: asyncio.Task[dict[str, int]] | None = None

    async def run(self) -> dict[str, int]:
        """Wait for a pass that begins after this call; returns how much it did, by kind. All who call during a pass
        share the next one: a burst of events costs two. Raises what the pass raises."""
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._after_current())
        # whoever stops waiting does not stop the pass of the others
        return await asyncio.shield(self._next)

    async def _after_current(self) -> dict[str, int]:
        async with self._under_way:
            self._next = None
            return await self._pass()

    async def _pass(self) -> dict[str, int]:
        try:
            done = await self._reconciler.reconcile()
        except Exception:
            metrics.reconciler_passes.labels("failed").inc()
            raise
        metrics.reconciler_passes.labels("done").inc()
        if self._request_another is not None and any(count >= MAX_ITEMS for count in done.values()):
            await self._request_another()
        return done
