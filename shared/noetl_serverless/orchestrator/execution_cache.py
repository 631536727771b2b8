"""Executions that this process has at hand, and one task at a time for each.

A kept case may be old: another process may have gone on. Its commit then fails, and it is loaded anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

import orjson

from ..limits import MIB
from ..ports import EventStore
from ..records import LoadedExecution

MAX_EXECUTIONS = 2048
# of memory that they may take together, by `weight_of`
MAX_BYTES = 64 * MIB
# of memory that each value of a JSON text takes beside its characters, of which one may take four
BYTES_PER_VALUE = 96
BYTES_PER_CHARACTER = 4


class ExecutionCache:
    def __init__(self, log: EventStore) -> None:
        self._event_store = log
        self._kept: OrderedDict[str, LoadedExecution] = OrderedDict()
        self._weights: dict[str, int] = {}
        self._weight = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def exclusive(self, ids: Iterable[str]) -> AsyncIterator[None]:
        """Keep other tasks of this process off these executions: they would only collide at the commit."""
        async with AsyncExitStack() as stack:
            for id in sorted(set(ids)):
                lock = self._locks.get(id)
                if lock is None:
                    lock = self._locks[id] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield

    async def get(self, ids: Iterable[str], fresh: bool = False) -> dict[str, LoadedExecution]:
        """The cases that exist; with `fresh`, as they stand in the store now."""
        wanted = list(dict.fromkeys(ids))
        # now, not after the load: another task may forget one meanwhile
        kept = {} if fresh else {id: self._kept[id] for id in wanted if id in self._kept}
        missing = [id for id in wanted if id not in kept]
        loaded = await self._event_store.load(missing) if missing else {}
        for id in missing:
            self.evict(id)
        for execution in loaded.values():
            self.put(execution)
        return {**kept, **loaded}

    def put(self, execution: LoadedExecution) -> None:
        """Have it at hand, in place of those used longest ago; not at all what has ended, or is too heavy by itself."""
        id = execution.execution_id
        weight = self._weights.get(id)
        # with each snapshot, which costs as much as weighing; few events come between them
        if weight is None or execution.head == execution.snapshot:
            weight = estimated_bytes(execution)
        self.evict(id)
        if execution.state.ended or weight > MAX_BYTES:
            return
        self._kept[id], self._weights[id] = execution, weight
        self._weight += weight
        while len(self._kept) > MAX_EXECUTIONS or self._weight > MAX_BYTES:
            self.evict(next(iter(self._kept)))

    def evict(self, id: str) -> None:
        if self._kept.pop(id, None) is not None:
            self._weight -= self._weights.pop(id)


def estimated_bytes(execution: LoadedExecution) -> int:
    """About the bytes of memory of its workload and state, rather more than less. What is no JSON weighs more than
    there is room for."""
    try:
        texts = [orjson.dumps(part) for part in (execution.state.workload, execution.state.snapshot())]
    except TypeError:
        return MAX_BYTES + 1
    marks = sum(text.count(mark) for text in texts for mark in (b"{", b"[", b","))
    return BYTES_PER_VALUE * marks + BYTES_PER_CHARACTER * sum(map(len, texts))
