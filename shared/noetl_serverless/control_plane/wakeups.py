"""Who waits in this process for an execution to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Wakeups:
    """For one event loop. A wake-up is a hint: whoever waits looks at the database now and then as well."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, execution_id: str) -> None:
        for event in self._waiting.get(execution_id, ()):
            event.set()

    @contextmanager
    def watch(self, execution_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the execution is said to have gone on; whoever waits clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(execution_id, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[execution_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[execution_id]
