"""The bus in memory: the same contract within one process."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence

from ..bus.key import encoded_key
from ..ports import Pointer
from ..protocol import CommandKey

Clock = Callable[[], float]


class MemoryNotifier:
    """Notifier with redelivery after `ack_wait` seconds, like the real one."""

    def __init__(self, *, ack_wait: float = 30.0, clock: Clock = time.monotonic) -> None:
        self._ack_wait = ack_wait
        self._clock = clock
        self._waiting: defaultdict[str, OrderedDict[tuple[str, str], CommandKey]] = defaultdict(OrderedDict)
        # token -> when it is delivered again, its pool, its key
        self._taken: OrderedDict[int, tuple[float, str, CommandKey]] = OrderedDict()
        self._next_token = 0
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        for key in commands:
            self._waiting[pool][(key.execution_id, key.command_id)] = key
        if commands:
            self._arrived[pool].set()

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        if limit < 1:
            return []
        deadline = self._clock() + wait
        while True:
            if pointers := self._take(pool, limit):
                return pointers
            left = min(deadline, self._next_return(pool)) - self._clock()
            if self._clock() >= deadline:
                return []
            self._arrived[pool].clear()
            try:
                await asyncio.wait_for(self._arrived[pool].wait(), max(left, 0.001))
            except TimeoutError:
                continue

    async def ack(self, pointers: Sequence[Pointer]) -> None:
        for pointer in pointers:
            self._taken.pop(pointer.token, None)

    async def close(self) -> None:
        self._waiting.clear()
        self._taken.clear()

    async def check(self) -> None:
        return None

    def _take(self, pool: str, limit: int) -> list[Pointer]:
        self._give_back()
        waiting = self._waiting[pool]
        pointers: list[Pointer] = []
        while waiting and len(pointers) < limit:
            _, key = waiting.popitem(last=False)
            self._next_token += 1
            self._taken[self._next_token] = (self._clock() + self._ack_wait, pool, key)
            pointers.append(Pointer(key, self._next_token))
        return pointers

    def _give_back(self) -> None:
        now = self._clock()
        while self._taken:
            token, (back_at, pool, key) = next(iter(self._taken.items()))
            if back_at > now:
                return
            del self._taken[token]
            self._waiting[pool][(key.execution_id, key.command_id)] = key

    def _next_return(self, pool: str) -> float:
        return min((at for at, owner, _ in self._taken.values() if owner == pool), default=float("inf"))


class MemoryKeyValue:
    def __init__(self, ttl: float = 28800.0, *, clock: Clock = time.monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._entries: dict[str, tuple[float, bytes]] = {}

    async def get(self, key: str) -> bytes | None:
        expires, value = self._entries.get(encoded_key(key), (0.0, b""))
        if expires > self._clock():
            return value
        self._entries.pop(encoded_key(key), None)
        return None

    async def put(self, key: str, value: bytes) -> None:
        self._entries[encoded_key(key)] = (self._clock() + self._ttl, value)

    async def delete(self, key: str) -> None:
        self._entries.pop(encoded_key(key), None)

    async def close(self) -> None:
        self._entries.clear()

    async def check(self) -> None:
        return None
