"""The signals of an execution in its log, by their id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from ..engine.events import SIGNAL_RECEIVED
from ..store.recorded import RecordedEvent
from .operation import Call

# signals that are read at once
_PAGE: Final = 500


async def recorded_signals(call: Call, execution_id: str, id: str, *, after: int = 0) -> AsyncIterator[RecordedEvent]:
    """In order. `after`: a position in the log."""
    while True:
        found, _, _ = await call.services.executions.follow(
            int(execution_id), after=after, type=SIGNAL_RECEIVED, limit=_PAGE
        )
        for event in found:
            if event.payload.get("id") == id:
                yield event
        if not found:
            return
        after = found[-1].seq
