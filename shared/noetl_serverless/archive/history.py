"""Executions and their logs, wherever they are: in the database, or in the archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from ..engine import events as e
from ..engine.events import REPORTS
from ..engine.state import State
from ..errors import NotFound
from ..limits import PAGE_BYTES
from ..store.connection import Database
from ..store.executions import COMPLETED, Execution, Executions, Part, Reported, together
from ..store.recorded import Recorded
from .read import Archive, execution_of

# with a filter a page reads this many events at a time
SLICE = 5000


class History(Executions):
    def __init__(self, database: Database, archive: Archive) -> None:
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
            first = await self.events(execution_id, limit=1)
            ctx = first[0].payload.get("ctx")
            return {**row["workload"], **({"ctx": ctx} if ctx else {})}

    async def state(self, execution_id: int) -> State:
        """As an archived execution ended; raises NotFound."""
        row = await self._row(execution_id)
        return State.restore(row["state"], row["workload"])

    async def tail(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100
    ) -> tuple[list[Recorded], int, str]:
        try:
            return await super().tail(execution_id, after=after, type=type, limit=limit)
        except NotFound:
            place = await self._archive.place(execution_id)
            if place is None:
                raise
            found = await self.events(execution_id, after=after, type=type, limit=limit)
            return found, place.head, place.status

    async def events(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100
    ) -> list[Recorded]:
        found = await super().events(execution_id, after=after, type=type, limit=limit)
        place = None if found else await self._archive.place(execution_id)
        if place is None:
            return found
        if type is None:
            return await self._archive.events(place, after, after + limit)
        while len(found) < limit and after < place.head:
            part = await self._archive.events(place, after, after + SLICE)
            found += [event for event in part if event.type == type]
            after += SLICE
        return found[:limit]

    async def events_page(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[list[Recorded], int]:
        found, total = await super().events_page(execution_id, after=after, type=type, limit=limit, offset=offset)
        place = None if total else await self._archive.place(execution_id)
        if place is None:
            return found, total
        if type is None:
            last = place.head - offset
            page = await self._archive.events(place, max(after, last - limit), last)
            return page[::-1], max(0, place.head - after)
        every = [event for event in await self._archive.events(place, after) if event.type == type]
        return every[::-1][offset : offset + limit], len(every)

    async def runs(
        self, execution_id: int, *, after: int = 0, step: str | None = None, failed: bool = False, limit: int = 100
    ) -> list[Reported]:
        found = await super().runs(execution_id, after=after, step=step, failed=failed, limit=limit)
        place = None if found else await self._archive.place(execution_id)
        if place is None:
            return found
        every = reported(await self._archive.events(place))
        return [
            run
            for run in every
            if run.seq > after
            and (step is None or run.step == step)
            and (not failed or (run.meta or {}).keys() & {"attempts", "lost"})
        ][:limit]

    async def parts(
        self, execution_id: int, step: str, generation: int, after: int = 0, most: int = PAGE_BYTES
    ) -> tuple[list[Part], bool]:
        found, more = await super().parts(execution_id, step, generation, after, most)
        if found:
            return found, more
        parts = await self._parts(execution_id, step, generation)
        return [part for part in parts if part.end > after], False

    async def finished(self, execution_id: int, step: str, generation: int) -> int:
        found = await super().finished(execution_id, step, generation)
        return found or sum(part.end - part.start for part in await self._parts(execution_id, step, generation))

    async def generation(self, execution_id: int, step: str) -> int | None:
        found = await super().generation(execution_id, step)
        if found is not None:
            return found
        opened = await self._of_loop(execution_id, step, e.LOOP_OPENED)
        return max((event.generation or 0 for event in opened), default=None)

    async def _row(self, execution_id: int) -> dict[str, Any]:
        place = await self._archive.place(execution_id)
        if place is None:
            raise NotFound(f"there is no execution {execution_id}")
        row: dict[str, Any] = (await self._archive.head(place))["execution"]
        return row

    async def _parts(self, execution_id: int, step: str, generation: int) -> list[Part]:
        frames = await self._of_loop(execution_id, step, e.FRAME_COMMITTED)
        return together(
            Part(event.payload["start"], event.payload["end"], event.payload.get("data"), event.payload.get("ref"))
            for event in sorted(frames, key=lambda event: int(event.payload["start"]))
            if event.generation == generation
        )

    async def _of_loop(self, execution_id: int, step: str, type: str) -> list[Recorded]:
        place = await self._archive.place(execution_id)
        if place is None:
            return []
        return [event for event in await self._archive.events(place) if event.type == type and event.step == step]


def reported(log: Iterable[Recorded]) -> Iterator[Reported]:
    """Of a whole log, as the database gives it."""
    issued: dict[str | None, datetime] = {}
    for event in log:
        if event.type == e.ISSUED:
            issued[event.command_id] = event.at
        elif event.type in REPORTS:
            payload = event.payload
            yield Reported(
                *(event.seq, event.type, event.step, event.generation, event.command_id, event.at),
                meta=payload.get("meta"),
                first_item=payload.get("start"),
                end_item=payload.get("end"),
                issued_at=issued.get(event.command_id),
            )
