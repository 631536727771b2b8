"""The write of a result that goes on after its command has ended: see `durability: pipelined`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...errors import Problem
from ...ports import StoredObject
from ...results.retry import retry_while_away
from ...results.unfinished import UnfinishedWrites, Write
from .errors import from_problem, step_error


class BackgroundWrite:
    """Of one command, whose outcome is reported when it has ended; there may be none."""

    def __init__(self, unfinished: UnfinishedWrites) -> None:
        self._unfinished = unfinished
        self._task: asyncio.Task[StoredObject] | None = None

    def begin(self, key: str, write: Write) -> None:
        self.cancel()
        self._task = self._unfinished.begin(key, lambda: retry_while_away(write, "the result could not be stored"))

    @property
    def is_under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def error(self) -> dict[str, Any] | None:
        """Of the step, if the write has failed."""
        if self._task is None or not self._task.done():
            return None
        if self._task.cancelled():
            return step_error("worker", "worker.internal", "the write of the result was stopped")
        error = self._task.exception()
        if error is None:
            return None
        if isinstance(error, Problem):
            return from_problem(error, "worker")
        return step_error("worker", "worker.internal", f"{type(error).__name__}: {error}")

    def on_end(self, call: Callable[[], object]) -> None:
        """Call it when the write has ended."""
        if self._task is not None:
            self._task.add_done_callback(lambda done: call())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
