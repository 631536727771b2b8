"""Python children that wait for the next call of their execution: not too many, and not for long.

Nobody tells when an execution has ended, or goes on elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .python_process import PythonProcess

# more executions than take turns in a worker: of fewer, each would be gone before its execution's next call. One that
# has loaded nothing takes a megabyte
MAX_IDLE = 256
# between two python steps of an execution is little time, or so much that another fork costs nothing in comparison
IDLE_SECONDS = 2.0


class _Idle(NamedTuple):
    since: float
    mb: int


class IdleChildren:
    def __init__(self, memory_mb: int, drop: Callable[[PythonProcess], None], flush: Callable[[], None]) -> None:
        """`memory_mb`: by how much they may have grown, all together; `drop`, `flush`: see `PythonSource`."""
        self._memory_mb = memory_mb
        self._drop = drop
        self._flush = flush
        # the one that has been idle for longest first
        self._children: dict[PythonProcess, _Idle] = {}
        self._by_execution: dict[str, list[PythonProcess]] = {}
        self._held_mb = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __iter__(self) -> Iterator[PythonProcess]:
        return iter(self._children)

    def take(self, execution: str) -> PythonProcess | None:
        """The one that this execution has used last."""
        children = self._by_execution.get(execution)
        if not children:
            return None
        child = children[-1]
        self.discard(child)
        return child

    def add(self, child: PythonProcess, mb: int) -> None:
        """`mb`: by how much its memory has grown."""
        assert child.execution is not None
        loop = asyncio.get_running_loop()
        self._children[child] = _Idle(loop.time(), mb)
        self._by_execution.setdefault(child.execution, []).append(child)
        self._held_mb += mb
        while len(self._children) > MAX_IDLE or self._held_mb > self._memory_mb:
            self._drop_oldest()
        if self._timer is None or self._loop is not loop:
            self._set_timer(loop, IDLE_SECONDS)

    def discard(self, child: PythonProcess) -> None:
        """Remove it, if it is here."""
        idle = self._children.pop(child, None)
        if idle is None or child.execution is None:
            return
        self._held_mb -= idle.mb
        children = self._by_execution[child.execution]
        children.remove(child)
        if not children:
            del self._by_execution[child.execution]

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_oldest(self) -> None:
        child = next(iter(self._children))
        self.discard(child)
        self._drop(child)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.stop()
        self._loop = loop
        self._timer = loop.call_later(seconds, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._children:
            left = next(iter(self._children.values())).since + IDLE_SECONDS - now
            if left > 0:
                self._set_timer(loop, left)
                break
            self._drop_oldest()
        self._flush()
