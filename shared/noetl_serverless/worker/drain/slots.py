"""The slots of one drain: what runs in them, how many are free, and whether the next one is for a fair claim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..execution.time_budget import TimeBudget
from .keys import Key
from .running import Running

# while all slots are taken by commands that follow from those that ended in them, a fair claim gets one this often
FAIR_CLAIM_SECONDS = 0.1


class Slots:
    def __init__(self, size: int, budget: TimeBudget) -> None:
        self.running: dict[Key, Running] = {}
        # a command that runs when nothing else does: see `Drain._isolate`
        self.isolated: Running | None = None
        # promised to calls that are under way
        self.reserved = 0
        self._size = size
        self._budget = budget
        self._holders: list[Callable[[], int]] = []
        self._fair_claim_at = asyncio.get_running_loop().time()
        self._changed = asyncio.Event()

    def add_holder(self, count: Callable[[], int]) -> None:
        """`count`: the number of slots that are occupied although nothing runs in them."""
        self._holders.append(count)

    @property
    def free(self) -> int:
        if self.isolated is not None:
            return 0
        occupied = sum(count() for count in self._holders)
        return self._size - len(self.running) - occupied - self.reserved

    @property
    def accepts_work(self) -> bool:
        """Whether the answer to a report may bring the commands that follow."""
        isolation_pending = self.isolated is not None and self.isolated.task is None
        return not (self._budget.is_closing or isolation_pending)

    @property
    def is_fair_claim_due(self) -> bool:
        """Whether the next free slot is for a fair claim among all pending commands: the steps of a long or endless
        loop would otherwise keep all slots. A report under way reserves all free slots, and a loop of short steps
        always has one under way."""
        return asyncio.get_running_loop().time() - self._fair_claim_at >= FAIR_CLAIM_SECONDS and self.free <= 0

    def record_fair_claim(self) -> None:
        self._fair_claim_at = asyncio.get_running_loop().time()

    def wake(self) -> None:
        """Something has changed: wake those that wait for a change."""
        self._changed.set()

    async def wait_for_change(self, timeout: float) -> None:
        """Wait until something has changed or `timeout` seconds have passed."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
