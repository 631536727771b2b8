"""The reconciler's passes, as its function runs them: counted, and followed by another while one was not enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..telemetry import metrics
from .reconciler import MAX_ITEMS, Reconciler


class Passes:
    """`request_another` is for a host whose next tick is far away."""

    def __init__(self, reconciler: Reconciler, request_another: Callable[[], Awaitable[object]] | None = None) -> None:
        self._reconciler = reconciler
        self._request_another = request_another

    async def run(self) -> dict[str, int]:
        """One pass; returns how much was done, by kind. Raises what it raises."""
        try:
            done = await self._reconciler.reconcile()
        except Exception:
            metrics.reconciler_passes.labels("failed").inc()
            raise
        metrics.reconciler_passes.labels("done").inc()
        if self._request_another is not None and any(count >= MAX_ITEMS for count in done.values()):
            await self._request_another()
        return done
