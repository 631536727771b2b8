"""Executions that this process has at hand, and one task at a time for each.

A kept case may be old: another process may have gone on. Its commit then fails, and it is loaded anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from ..store.case import Case
from ..store.log import Log

MOST = 2048


class Cases:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[str, Case] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def alone(self, ids: Iterable[str]) -> AsyncIterator[None]:
        """Keep other tasks of this process off these executions: they would only collide at the commit."""
        async with AsyncExitStack() as stack:
            for id in sorted(set(ids)):
                lock = self._locks.get(id)
                if lock is None:
                    lock = self._locks[id] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield

    async def get(self, ids: Iterable[str], fresh: bool = False) -> dict[str, Case]:
        """The cases that exist; with `fresh`, as they stand in the store now."""
        wanted = list(dict.fromkeys(ids))
        # now, not after the load: another task may forget one meanwhile
        kept = {} if fresh else {id: self._kept[id] for id in wanted if id in self._kept}
        missing = [id for id in wanted if id not in kept]
        loaded = await self._log.load(missing) if missing else {}
        for id in missing:
            self._kept.pop(id, None)
        for case in loaded.values():
            self.keep(case)
        return {**kept, **loaded}

    def keep(self, case: Case) -> None:
        if case.state.ended:
            self._kept.pop(case.execution_id, None)
            return
        self._kept[case.execution_id] = case
        self._kept.move_to_end(case.execution_id)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def forget(self, id: str) -> None:
        self._kept.pop(id, None)
