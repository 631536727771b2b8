"""Requests in this process that wait for an execution to continue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.state import State
from ..records import LoadedExecution

# commits within this time cause one wake-up, so that watching a quick execution does not slow it down
BATCH_SECONDS = 0.02


class ExpectedEnd:
    """`state`: the state of the execution once it has ended, if a commit of this process ends it. `is_followed` is set
    by each of its commits here."""

    def __init__(self, expected: dict[str, set[ExpectedEnd]], state: asyncio.Future[State]) -> None:
        self.state = state
        self.is_followed = False
        self._expected = expected
        self._execution_id: str | None = None

    def name(self, execution_id: str) -> None:
        """Expect the end of this execution, and of no other any more."""
        self.forget()
        self._execution_id = execution_id
        self._expected.setdefault(execution_id, set()).add(self)

    def forget(self) -> None:
        if self._execution_id is None:
            return
        ends = self._expected[self._execution_id]
        ends.discard(self)
        if not ends:
            del self._expected[self._execution_id]
        self._execution_id = None


class Watchers:
    """For one event loop. A wake-up is only a hint: the waiting request also polls the database."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._scheduled: set[str] = set()
        self._expected_ends: dict[str, set[ExpectedEnd]] = {}

    def notify(self, execution: LoadedExecution) -> None:
        """Wake the requests that watch: at once if the execution has ended, else together with what else happens within
        BATCH_SECONDS."""
        execution_id, ended = execution.execution_id, execution.state.ended
        for expected in self._expected_ends.get(execution_id, ()):
            expected.is_followed = True
            if ended and not expected.state.done():
                expected.state.set_result(execution.state)
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

    @contextmanager
    def expect_end(self) -> Iterator[ExpectedEnd]:
        """The end of an execution that is still to be named."""
        expected = ExpectedEnd(self._expected_ends, asyncio.get_running_loop().create_future())
        try:
            yield expected
        finally:
            expected.forget()
