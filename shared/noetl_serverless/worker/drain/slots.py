"""The slots of one drain: what runs in them, how many are free, and whose turn the next one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..execution.time_budget import TimeBudget
from .keys import Key
from .running import Running

# while all slots are taken by what follows from what ended in them, one goes to whoever waits this often
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
        """`count`: slots that hold something although nothing runs in them."""
        self._holders.append(count)

    @property
    def free(self) -> int:
        if self.isolated is not None:
            return 0
        occupied = sum(count() for count in self._holders)
        return self._size - len(self.running) - occupied - self.reserved

    @property
    def accepts_work(self) -> bool:
        """Whether what follows from a report may come with the answer."""
        waits = self.isolated is not None and self.isolated.task is None
        return not (self._budget.is_closing or waits)

    @property
    def is_fair_claim_due(self) -> bool:
        """Whether the next slot that comes free is for whoever's turn it is among all that waits: what follows from a
        loop that is long, or endless, would keep all slots to itself. A report under way has all that are free, and a
        loop of short steps has always one."""
        return asyncio.get_running_loop().time() - self._fair_claim_at >= FAIR_CLAIM_SECONDS and self.free <= 0

    def record_fair_claim(self) -> None:
        self._fair_claim_at = asyncio.get_running_loop().time()

    def wake(self) -> None:
        """Something has changed: whoever waits for that looks again."""
        self._changed.set()

    async def wait_for_change(self, timeout: float) -> None:
        """Until something has changed, or `timeout` seconds have passed."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
