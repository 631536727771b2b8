"""Reads single executions from the archive: a row of the database has the place, the log file has the content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar

from ..engine import events as e
from ..errors import NotFound
from ..ports import ResultStore
from ..store.archives import ArchivePlace, Archives
from ..store.executions import Execution
from ..store.recorded import RecordedEvent
from .log_file import NotALog, events_of, head_of, spans

T = TypeVar("T")


class ArchiveReader:
    """`store` is called only when an archived execution is read."""

    def __init__(self, archives: Archives, store: Callable[[], ResultStore]) -> None:
        self._archives = archives
        self._store = store

    async def place(self, execution_id: int) -> ArchivePlace | None:
        return await self._archives.place(execution_id)

    async def children(self, execution_id: int) -> list[str]:
        return await self._archives.children(execution_id)

    async def head(self, place: ArchivePlace) -> dict[str, Any]:
        """{"execution": row, "results": rows, "commands": rows}, as they were in the database; raises NotFound."""
        _, offset, length = place.blocks[0]
        return await self._understood(place, head_of, await self._read(place, offset, length))

    async def scan(
        self, place: ArchivePlace, after: int = 0, last: int | None = None, *, backwards: bool = False
    ) -> AsyncIterator[RecordedEvent]:
        """The events after `after`, up to `last`, in order or backwards; only a few blocks of them are in memory at
        once. Raises NotFound."""
        last = place.head if last is None else min(last, place.head)
        if after >= last:
            return
        chosen = spans(place.blocks, after, last)
        for offset, length in reversed(chosen) if backwards else chosen:
            content = await self._read(place, offset, length)
            found = await self._understood(place, lambda it: list(events_of(place.execution_id, it)), content)
            for event in reversed(found) if backwards else found:
                if after < event.seq <= last:
                    yield event

    async def _understood(self, place: ArchivePlace, read: Callable[[bytes], T], content: bytes) -> T:
        try:
            return await asyncio.to_thread(read, content)
        except NotALog as error:
            raise NotFound(
                f"execution {place.execution_id} is archived, but {place.key} is not what was written: {error}"
            ) from None

    async def _read(self, place: ArchivePlace, offset: int, length: int) -> bytes:
        try:
            return await self._store().get_range(place.key, offset, length)
        except KeyError:
            raise NotFound(
                f"execution {place.execution_id} is archived, but {place.key} is not in the result store"
            ) from None


def execution_of(row: dict[str, Any], last: RecordedEvent | None = None) -> Execution:
    """`row`: the row as it was in the database; `last`: the last event of its log."""
    ended = row["ended_at"]
    names = (
        *("execution_id", "catalog_id", "path", "version", "parent_execution_id", "status", "result", "error"),
        *("head", "finished"),
    )
    return Execution(
        **{name: row[name] for name in names},
        created_at=datetime.fromisoformat(row["created_at"]),
        ended_at=None if ended is None else datetime.fromisoformat(ended),
        # the progress of an ended execution is not needed
        steps=None,
        # rows of earlier releases have none
        principal=row.get("principal"),
        restart_of=row.get("restart_of"),
        archived=True,
        warnings=last.payload.get("warnings") if last is not None and last.type == e.COMPLETED else None,
    )
