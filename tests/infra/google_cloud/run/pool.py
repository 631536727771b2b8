"""The instances of one revision, and the requests that wait for one of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine

from ..guard import Guard
from .instance import Instance, Revision, StartFailed

# seconds, as on Cloud Run: how long a request waits at least, and how many starts of an instance
WAIT_SECONDS = 10.0
WAIT_STARTS = 3.5
# after a start that failed
_PAUSE_SECONDS = 1.0


class NoInstance(Exception):
    """All that may run are busy, and stayed so."""


class Pool:
    """Never more than `maximum` instances; at least `minimum`, however idle. `idle`: seconds until others are
    stopped."""

    def __init__(self, revision: Revision, guard: Guard, minimum: int, maximum: int, idle: float) -> None:
        self.revision = revision
        self.minimum = minimum
        self.maximum = maximum
        self.is_retired = False
        self._guard = guard
        self._idle = idle
        self._instances: list[Instance] = []
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        # coroutines that start or stop an instance
        self._changes: set[asyncio.Task[None]] = set()
        self._slowest_start = 0.0
        self._next_start = 0.0

    @property
    def instances(self) -> list[Instance]:
        return list(self._instances)

    async def start(self) -> None:
        """One instance, to see whether it comes up, and as many as there must be. StartFailed."""
        await self._come_up(self._add())
        self._assign()

    async def acquire(self) -> Instance:
        """An instance with a free slot, which must be released. Raises NoInstance, StartFailed."""
        slot: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        self._assign()
        try:
            async with asyncio.timeout(max(WAIT_SECONDS, WAIT_STARTS * self._slowest_start)):
                return await slot
        except TimeoutError:
            raise NoInstance from None
        finally:
            if slot in self._waiting:
                self._waiting.remove(slot)

    def release(self, instance: Instance) -> None:
        instance.end_request()
        self._assign()

    def retire(self) -> None:
        """Finish what is under way, take nothing new."""
        self.is_retired = True
        self.tick()

    def tick(self) -> None:
        """Replace what has crashed, stop what is idle."""
        for instance in self.instances:
            if instance.is_ready and not instance.alive:
                instance.kill()
                self._instances.remove(instance)
        self._assign()
        ready = [instance for instance in self._instances if instance.is_ready]
        spare = len(self._instances) if self.is_retired else len(self._instances) - self.minimum
        patience = 0.0 if self.is_retired else self._idle
        for instance in [one for one in ready if not one.requests and not self._waiting][: max(0, spare)]:
            if time.monotonic() - instance.idle_since >= patience:
                self._instances.remove(instance)
                self._begin(instance.stop())

    def kill(self) -> None:
        for change in self._changes:
            change.cancel()
        for instance in self._instances:
            instance.kill()
        self._instances.clear()

    def _assign(self) -> None:
        """Give free slots to those who wait, first come, first served, and start instances for the rest."""
        while self._waiting and (instance := self._free()):
            slot = self._waiting.popleft()
            if not slot.done():
                instance.begin_request()
                slot.set_result(instance)
        starting = sum(not instance.is_ready for instance in self._instances)
        wanted = math.ceil(len(self._waiting) / self.revision.concurrency)
        if not self.is_retired:
            wanted = max(wanted, self.minimum - (len(self._instances) - starting))
        if time.monotonic() < self._next_start:
            return
        for _ in range(min(wanted - starting, self.maximum - len(self._instances))):
            self._begin(self._start(self._add()))

    def _free(self) -> Instance | None:
        for instance in self._instances:
            if instance.is_ready and instance.requests < self.revision.concurrency and instance.alive:
                return instance
        return None

    def _begin(self, change: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    def _add(self) -> Instance:
        """It counts from now on."""
        instance = Instance(self.revision, self._guard)
        self._instances.append(instance)
        return instance

    async def _start(self, instance: Instance) -> None:
        try:
            await self._come_up(instance)
        except StartFailed as error:
            self._next_start = time.monotonic() + _PAUSE_SECONDS
            if not self._instances:
                while self._waiting:
                    slot = self._waiting.popleft()
                    if not slot.done():
                        slot.set_exception(error)
        self._assign()

    async def _come_up(self, instance: Instance) -> None:
        """StartFailed."""
        began = time.monotonic()
        try:
            await instance.start()
        except BaseException:
            instance.kill()
            if instance in self._instances:
                self._instances.remove(instance)
            raise
        self._slowest_start = max(self._slowest_start, time.monotonic() - began)
