"""Executions and their logs, wherever they are: in the database, or in the archive."""

from __future__ import annotations

from bisect import insort
from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..engine import events as e
from ..engine.events import REPORTS
from ..engine.limits import size_of
from ..engine.state import State
from ..errors import NotFound
from ..limits import PAGE_BYTES
from ..store.archives import ArchivePlace
from ..store.database import Database
from ..store.executions import (
    COMPLETED,
    Execution,
    Executions,
    LoopStats,
    ReportedCommand,
    ResultRange,
    merge_inline,
)
from ..store.recorded import RecordedEvent
from .read import ArchiveReader, execution_of


class History(Executions):
    def __init__(self, database: Database, archive: ArchiveReader) -> None:
        super().__init__(database)
        self._archive = archive

    async def get(self, execution_id: int) -> Execution:
        try:
            return await super().get(execution_id)
        except NotFound:
            row = await self._row(execution_id)
            last = await self.events(execution_id, after=row["head"] - 1, limit=1) if row["status"] == COMPLETED else []
            return execution_of(row, last[0] if last else None)

    async def initial(self, execution_id: int) -> dict[str, Any]:
        try:
            return await super().initial(execution_id)
        except NotFound:
            row = await self._row(execution_id)
            first = await self.events(execution_id, after=0, limit=1)
            ctx = first[0].payload.get("ctx")
            return {**row["workload"], **({"ctx": ctx} if ctx else {})}

    async def state(self, execution_id: int) -> State:
        """The final state of an archived execution; raises NotFound."""
        row = await self._row(execution_id)
        return State.restore(row["state"], row["workload"])

    async def plan_hash(self, execution_id: int) -> str | None:
        found = await super().plan_hash(execution_id)
        if found is not None or (place := await self._archive.place(execution_id)) is None:
            return found
        hash: str = (await self._archive.head(place))["execution"]["plan_hash"]
        return hash

    async def follow(
        self, execution_id: int, *, after: int, type: str | None, limit: int
    ) -> tuple[list[RecordedEvent], int, str]:
        try:
            return await super().follow(execution_id, after=after, type=type, limit=limit)
        except NotFound:
            place = await self._archive.place(execution_id)
            if place is None:
                raise
            return await self._events(place, after, type, limit), place.head, place.status

    async def events(self, execution_id: int, *, after: int, limit: int) -> list[RecordedEvent]:
        found = await super().events(execution_id, after=after, limit=limit)
        place = None if found else await self._archive.place(execution_id)
        return found if place is None else await self._events(place, after, None, limit)

    async def events_page(
        self, execution_id: int, *, after: int, type: str | None, limit: int, offset: int
    ) -> tuple[list[RecordedEvent], int]:
        found, total = await super().events_page(execution_id, after=after, type=type, limit=limit, offset=offset)
        place = None if total else await self._archive.place(execution_id)
        if place is None:
            return found, total
        last = place.head
        if type is None:
            # every event counts, so the events of other pages need not be read
            last, after, offset, total = last - offset, max(after, last - offset - limit), 0, max(0, last - after)
        size = seen = 0
        async for event in self._archive.scan(place, after, last, backwards=True):
            if type is not None and event.type != type:
                continue
            if offset <= seen < offset + limit:
                bytes = size_of(event.payload)
                found.append(event if size < PAGE_BYTES else replace(event, payload={}, payload_bytes=bytes))
                size += bytes
            seen += 1
        return found, seen if type is not None else total

    async def runs(
        self, execution_id: int, *, after: int, step: str | None, failed: bool, limit: int
    ) -> list[ReportedCommand]:
        found = await super().runs(execution_id, after=after, step=step, failed=failed, limit=limit)
        place = None if found else await self._archive.place(execution_id)
        if place is None:
            return found
        async for event in self._archive.scan(place, after):
            if event.type in REPORTS and step in (None, event.step):
                run = _reported(event)
                if not failed or (run.meta or {}).keys() & {"attempts", "lost"}:
                    found.append(run)
                if len(found) == limit:
                    break
        issued = await self._issued(place, found)
        return [replace(run, issued_at=issued.get(run.seq)) for run in found]

    async def _issued(self, place: ArchivePlace, runs: Sequence[ReportedCommand]) -> dict[int, datetime]:
        """When the command of each run was last issued before it, by the run's seq. Reads back from the last run until
        all are found."""
        wanted: dict[str | None, list[int]] = {}
        for run in runs:
            wanted.setdefault(run.command_id, []).append(run.seq)
        issued: dict[int, datetime] = {}
        if not runs:
            return issued
        async for event in self._archive.scan(place, 0, runs[-1].seq, backwards=True):
            if event.type != e.ISSUED or event.command_id not in wanted:
                continue
            seqs = wanted[event.command_id]
            while seqs and seqs[-1] > event.seq:
                issued[seqs.pop()] = event.at
            if not seqs:
                del wanted[event.command_id]
            if not wanted:
                break
        return issued

    async def loop_results(
        self, execution_id: int, step: str, generation: int, after: int, max_bytes: int
    ) -> tuple[list[ResultRange], bool]:
        found, more = await super().loop_results(execution_id, step, generation, after, max_bytes)
        if found:
            return found, more
        # the first ranges, as many as there is room for; the log has them in the order in which they were finished
        kept: list[tuple[ResultRange, int]] = []
        size = 0
        async for event in self._of_loop(execution_id, step, e.FRAMES):
            payload = event.payload
            # claims that found nothing have no items
            if event.generation != generation or payload["end"] <= max(after, payload["start"]):
                continue
            part = ResultRange(payload["start"], payload["end"], payload.get("data"), payload.get("ref"))
            bytes = sum(size_of(value) for value in (part.data, part.ref) if value is not None)
            insort(kept, (part, bytes), key=lambda it: it[0].start)
            size += bytes
            while size - kept[-1][1] >= max_bytes:
                size -= kept.pop()[1]
                more = True
        return merge_inline(part for part, _ in kept), more

    async def loop_stats(self, execution_id: int, step: str, generation: int) -> LoopStats | None:
        found = await super().loop_stats(execution_id, step, generation)
        if found is not None:
            return found
        counts = [
            it.payload["count"]
            async for it in self._of_loop(execution_id, step, {e.LOOP_OPENED})
            if it.generation == generation
        ]
        if not counts:
            return None
        success = failed = 0
        async for event in self._of_loop(execution_id, step, e.FRAMES):
            if event.generation == generation:
                success, failed = success + event.payload["ok"], failed + event.payload["failed"]
        # of a loop that claims its items, they are those that it has claimed
        return LoopStats(max(counts[0], success + failed), success, failed, claims=counts[0] == 0)

    async def latest_generation(self, execution_id: int, step: str) -> int | None:
        found = await super().latest_generation(execution_id, step)
        if found is not None:
            return found
        opened = [event.generation or 0 async for event in self._of_loop(execution_id, step, {e.LOOP_OPENED})]
        return max(opened, default=None)

    async def _row(self, execution_id: int) -> dict[str, Any]:
        place = await self._archive.place(execution_id)
        if place is None:
            raise NotFound(f"there is no execution {execution_id}")
        row: dict[str, Any] = (await self._archive.head(place))["execution"]
        return row

    async def _events(self, place: ArchivePlace, after: int, type: str | None, limit: int) -> list[RecordedEvent]:
        """The events in order, at most `limit`, and no more than needed to reach PAGE_BYTES of payload."""
        found: list[RecordedEvent] = []
        size = 0
        async for event in self._archive.scan(place, after, after + limit if type is None else None):
            if type is None or event.type == type:
                found.append(event)
                size += size_of(event.payload)
            if len(found) == limit or size >= PAGE_BYTES:
                break
        return found

    async def _of_loop(self, execution_id: int, step: str, types: Set[str]) -> AsyncIterator[RecordedEvent]:
        place = await self._archive.place(execution_id)
        if place is None:
            return
        async for event in self._archive.scan(place):
            if event.type in types and event.step == step:
                yield event


def _reported(event: RecordedEvent) -> ReportedCommand:
    """As the database returns it, but without the time at which its command was issued."""
    payload = event.payload
    return ReportedCommand(
        *(event.seq, event.type, event.step, event.generation, event.command_id, event.at),
        meta=payload.get("meta"),
        first_item=payload.get("start"),
        end_item=payload.get("end"),
        issued_at=None,
    )
