"""Reading executions and their logs. What writes them is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import NotFound
from ..limits import LOOP_ITEMS, PAGE_BYTES
from .database import Database
from .ids import first_id
from .queries import load
from .recorded import RecordedEvent

RUNNING, COMPLETED, FAILED, CANCELLED = "RUNNING", "COMPLETED", "FAILED", "CANCELLED"
ENDED = frozenset({COMPLETED, FAILED, CANCELLED})


@dataclass(kw_only=True, frozen=True, slots=True)
class Execution:
    """A row of the list. `result` is {"data"} or {"ref"}; `finished` of the `steps` have an outcome."""

    execution_id: int
    catalog_id: int | None
    path: str
    version: int | None
    parent_execution_id: int | None
    status: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    # the seq of the last event
    head: int
    created_at: datetime
    ended_at: datetime | None
    steps: int | None
    finished: int
    # who or what started it
    principal: dict[str, Any] | None = None
    # read from the archive; in a list without its result, error and principal
    archived: bool = False
    # read alone: what its end warns of, and whether it waits for a person
    warnings: list[dict[str, Any]] | None = None
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class ReportedCommand:
    """What a worker has reported of a command, and when that was issued; for a frame of a loop, with its items."""

    seq: int
    type: str
    step: str | None
    generation: int | None
    command_id: str | None
    at: datetime
    meta: dict[str, Any] | None
    first_item: int | None
    end_item: int | None
    issued_at: datetime | None


@dataclass(frozen=True, slots=True)
class OutstandingCommands:
    """The commands of one run of a step that are out or put off: how many are queued, run, and are delayed."""

    step: str
    generation: int
    queued: int
    running: int
    delayed: int
    queued_since: datetime | None
    running_since: datetime | None
    # the longest that one of those that run was queued
    queued_ms: int | None
    # of the first timer
    due_at: datetime | None
    # one of those that have them
    worker: str | None
    # the most that one of them had
    deliveries: int


@dataclass(frozen=True, slots=True)
class ResultRange:
    """The results of the loop items `start` to `end`: either `data`, a list, or `ref` to one."""

    start: int
    end: int
    data: list[Any] | None
    ref: dict[str, Any] | None


class Executions:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("executions")

    async def entries(
        self,
        *,
        status: str | None = None,
        path: str | None = None,
        parent: int | None = None,
        principal: str | None = None,
        principal_kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[list[Execution], bool]:
        """The newest first, or those older than the execution `before`, and whether there are more; `path` is itself
        and all below it, `principal` the name of who started them, which `principal_kind` narrows; they began from
        `since` on, and before `until`, to the millisecond. `limit` of them at most, and no more than it takes to have
        PAGE_BYTES of results and errors.

        Those in the archive, too, without their result and error, but not if they are asked for by principal.
        """
        ends = [id for id in (before, None if until is None else first_id(until)) if id is not None]
        rows = await self._database.rows(
            self._sql["entries"],
            status=status,
            path=path,
            parent=parent,
            principal=principal,
            kind=principal_kind if principal is not None else None,
            since=None if since is None else first_id(since),
            before=min(ends, default=None),
            limit=limit,
            offset=offset,
            bytes=PAGE_BYTES,
        )
        more = bool(rows) and rows[-1]["more"]
        return [Execution(**{name: row[name] for name in row if name != "more"}) for row in rows], more

    async def get(self, execution_id: int) -> Execution:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["get"], execution_id=execution_id)
        return Execution(**_one(rows, execution_id))

    async def initial(self, execution_id: int) -> dict[str, Any]:
        """What it was started with: the workload, and under the key ctx the initial ctx, if any; raises NotFound."""
        rows = await self._database.rows(self._sql["initial"], execution_id=execution_id)
        row = _one(rows, execution_id)
        return {**row["workload"], **({"ctx": row["ctx"]} if row["ctx"] else {})}

    async def follow(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100
    ) -> tuple[list[RecordedEvent], int, str]:
        """The events after a position, the seq of the last event there is, and the status; raises NotFound. `limit`
        of them at most, and no more than it takes to have PAGE_BYTES of payload."""
        rows = await self._database.rows(
            self._sql["tail"], execution_id=execution_id, after=after, type=type, limit=limit, bytes=PAGE_BYTES
        )
        head, status = _one(rows, execution_id)["head"], rows[0]["status"]
        found = [{name: value for name, value in row.items() if name not in ("head", "status")} for row in rows]
        return [RecordedEvent(**row) for row in found if row["seq"] is not None], head, status

    async def events(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100
    ) -> list[RecordedEvent]:
        """In order. An unknown execution has none."""
        rows = await self._database.rows(
            self._sql["events"], execution_id=execution_id, after=after, type=type, limit=limit
        )
        return [RecordedEvent(**row) for row in rows]

    async def events_page(
        self, execution_id: int, *, after: int = 0, type: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[list[RecordedEvent], int]:
        """The newest first, and how many there are in all; behind PAGE_BYTES without their payloads."""
        rows = await self._database.rows(
            self._sql["events_page"],
            execution_id=execution_id,
            after=after,
            type=type,
            limit=limit,
            offset=offset,
            bytes=PAGE_BYTES,
        )
        total = await self._database.run(self._sql["events_count"], execution_id=execution_id, after=after, type=type)
        return [RecordedEvent(**{**row, "payload": row["payload"] or {}}) for row in rows], int(total[0][0])

    async def runs(
        self, execution_id: int, *, after: int = 0, step: str | None = None, failed: bool = False, limit: int = 100
    ) -> list[ReportedCommand]:
        """What workers have reported, in order; `failed`: only where an attempt has. An unknown execution has none."""
        rows = await self._database.rows(
            self._sql["runs"], execution_id=execution_id, after=after, step=step, failed=failed, limit=limit
        )
        return [ReportedCommand(**row) for row in rows]

    async def outstanding(self, execution_id: int) -> list[OutstandingCommands]:
        rows = await self._database.rows(self._sql["under_way"], execution_id=execution_id)
        return [OutstandingCommands(**row) for row in rows]

    async def loop_results(
        self, execution_id: int, step: str, generation: int, after: int = 0, most: int = PAGE_BYTES
    ) -> tuple[list[ResultRange], bool]:
        """A loop's results from the item `after` on, in order, neighbours that are inline taken together: no more of
        them than it takes to have `most` bytes; and whether there are more behind them."""
        of = {"execution_id": execution_id, "step": step, "generation": generation}
        rows = await self._database.rows(self._sql["results"], **of, after=min(after, LOOP_ITEMS), bytes=most)
        parts = merge_inline(ResultRange(**row) for row in rows)
        return parts, bool(parts) and (await self._database.run(self._sql["beyond"], **of, after=parts[-1].end))[0][0]

    async def finished_items(self, execution_id: int, step: str, generation: int) -> int:
        """How many items of a loop have finished."""
        of = {"execution_id": execution_id, "step": step, "generation": generation}
        return int((await self._database.run(self._sql["finished"], **of))[0][0])

    async def latest_generation(self, execution_id: int, step: str) -> int | None:
        """The latest run of a loop step; None if it has not been opened."""
        rows = await self._database.run(self._sql["generation"], execution_id=execution_id, step=step)
        return rows[0][0] if rows else None


def merge_inline(parts: Iterable[ResultRange]) -> list[ResultRange]:
    """Neighbours that are inline as one."""
    joined: list[ResultRange] = []
    for part in parts:
        before = joined[-1] if joined else None
        if before is None or before.data is None or part.data is None or before.end != part.start:
            joined.append(part)
        else:
            before.data.extend(part.data)
            joined[-1] = ResultRange(before.start, part.end, before.data, None)
    return joined


def _one(rows: list[dict[str, Any]], execution_id: int) -> dict[str, Any]:
    if not rows:
        raise NotFound(f"there is no execution {execution_id}")
    return rows[0]
