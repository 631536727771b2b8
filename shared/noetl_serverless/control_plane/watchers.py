"""Requests in this process that wait for an execution to continue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# commits within this time cause one wake-up, so that watching a quick execution does not slow it down
BATCH_SECONDS = 0.02


class Watchers:
    """For one event loop. A wake-up is only a hint: the waiting request also polls the database."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._scheduled: set[str] = set()

    def notify(self, execution_id: str, ended: bool) -> None:
        """Wake the requests that watch: at once if the execution has ended, else together with what else happens within
        BATCH_SECONDS."""
        if execution_id not in self._waiting:
            return
        if ended:
            self._set_events(execution_id)
        elif execution_id not in self._scheduled:
            self._scheduled.add(execution_id)
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._set_events, execution_id)

    def _set_events(self, execution_id: str) -> None:
        self._scheduled.discard(execution_id)
        for event in self._waiting.get(execution_id, ()):
            event.set()

    @contextmanager
    def watch(self, execution_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the execution has continued; the waiting request clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(execution_id, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[execution_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[execution_id]
