"""Who waits in this process for an execution to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# what an execution does within so many seconds is told at once, so that watching a quick one does not slow it down
BATCH_SECONDS = 0.02


class Watchers:
    """For one event loop. A wake-up is a hint: whoever waits looks at the database now and then as well."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._soon: set[str] = set()

    def notify(self, execution_id: str, ended: bool) -> None:
        """Tell those who watch: at once of its end, else with what else happens in the next moment."""
        if execution_id not in self._waiting:
            return
        if ended:
            self._set_events(execution_id)
        elif execution_id not in self._soon:
            self._soon.add(execution_id)
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._set_events, execution_id)

    def _set_events(self, execution_id: str) -> None:
        self._soon.discard(execution_id)
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
