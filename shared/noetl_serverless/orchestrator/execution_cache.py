"""A cache of executions in this process, and one task at a time for each.

A cached execution may be stale if another process has committed to it. Its commit then fails, and it is loaded again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import orjson

from ..limits import MIB
from ..ports import EventStore
from ..records import LoadedExecution

MAX_EXECUTIONS = 2048
# of memory for all of them together, by `estimated_bytes`
MAX_BYTES = 64 * MIB
# of memory for each value of a JSON text, beside its characters, each of which may take four
BYTES_PER_VALUE = 96
BYTES_PER_CHARACTER = 4


class ExecutionCache:
    def __init__(self, event_store: EventStore) -> None:
        self._event_store = event_store
        self._cached: OrderedDict[str, LoadedExecution] = OrderedDict()
        self._weights: dict[str, int] = {}
        self._weight = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def exclusive(self, ids: Iterable[str]) -> AsyncIterator[None]:
        """Keep other tasks of this process off these executions: they would only collide at the commit."""
        held: list[asyncio.Lock] = []
        try:
            for id in sorted(set(ids)):
                lock = self._locks.get(id)
                if lock is None:
                    lock = self._locks[id] = asyncio.Lock()
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()

    async def get(self, ids: Iterable[str], fresh: bool = False) -> dict[str, LoadedExecution]:
        """The executions that exist; with `fresh`, as they are in the store now."""
        wanted = list(dict.fromkeys(ids))
        # before the load: another task may evict one meanwhile
        cached = {} if fresh else {id: self._cached[id] for id in wanted if id in self._cached}
        missing = [id for id in wanted if id not in cached]
        loaded = await self._event_store.load(missing) if missing else {}
        for id in missing:
            self.evict(id)
        for execution in loaded.values():
            self.put(execution)
        return {**cached, **loaded}

    def put(self, execution: LoadedExecution) -> None:
        """Cache it, evicting those that were put longest ago; not if it has ended or is too heavy by itself."""
        id = execution.execution_id
        weight = self._weights.get(id)
        # weighed again at each snapshot, which costs as much; few events come between two snapshots
        if weight is None or execution.head == execution.snapshot:
            weight = estimated_bytes(execution)
        self.evict(id)
        if execution.state.ended or weight > MAX_BYTES:
            return
        self._cached[id], self._weights[id] = execution, weight
        self._weight += weight
        while len(self._cached) > MAX_EXECUTIONS or self._weight > MAX_BYTES:
            self.evict(next(iter(self._cached)))

    def evict(self, id: str) -> None:
        if self._cached.pop(id, None) is not None:
            self._weight -= self._weights.pop(id)


def estimated_bytes(execution: LoadedExecution) -> int:
    """The approximate memory of its workload and state, rather too high than too low. If they have no JSON form, the
    estimate is too high for the cache."""
    try:
        texts = [orjson.dumps(part) for part in (execution.state.workload, execution.state.snapshot())]
    except TypeError:
        return MAX_BYTES + 1
    marks = sum(text.count(mark) for text in texts for mark in (b"{", b"[", b","))
    return BYTES_PER_VALUE * marks + BYTES_PER_CHARACTER * sum(map(len, texts))
