"""Reads executions and their logs. They are written by the event store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
# how many of those that go on with one execution are listed
MAX_RESTARTS = 100


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
    # the execution that it goes on with
    restart_of: int | None = None
    paused_at: datetime | None = None
    # whether it was read from the archive; in a list it then has no result, error and principal
    archived: bool = False
    # only from `get`: the warnings of its end, and whether it is in quarantine
    warnings: list[dict[str, Any]] | None = None
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class ReportedCommand:
    """A worker's report of a command, and when the command was issued; for a frame, with its range of items."""

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
    """The outstanding commands of one run of a step: how many are queued, running and delayed."""

    step: str
    generation: int
    queued: int
    running: int
    delayed: int
    queued_since: datetime | None
    running_since: datetime | None
    # the longest time that a running one was queued
    queued_ms: int | None
    # when the first timer is due
    due_at: datetime | None
    # one of the workers that run them
    worker: str | None
    # the most that any of them has had
    deliveries: int
    # what limits keep queued ones waiting: {unit, kind, key, limit, used, per?, next_start?}; None if none does
    limits: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class ResultRange:
    """The results of the loop items `start` to `end`: either `data`, a list, or `ref` to one."""

    start: int
    end: int
    data: list[Any] | None
    ref: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class LoopStats:
    """How many items a loop has, and how many of them have ended well and with an error. `claims`: whether it claims
    them, if it has had any."""

    total: int
    success: int
    failed: int
    claims: bool = False


class Executions:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("executions")

    async def entries(
        self,
        *,
        status: str | None = None,
        paused: bool = False,
        path: str | None = None,
        parent: int | None = None,
        principal: str | None = None,
        principal_kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int,
        offset: int,
    ) -> tuple[list[Execution], bool]:
        """The newest first, or those older than the execution `before`, and whether there are more. `path` matches
        itself and all below it, `principal` the name of who started them, which `principal_kind` narrows. They began
        at `since` or later, and before `until`, to the millisecond; with `paused`, they run and are paused. At most
        `limit`, and none after the one that reaches PAGE_BYTES of results and errors.

        Archived ones are included, without their result and error, but not in a search by principal.
        """
        ends = [id for id in (before, None if until is None else first_id(until)) if id is not None]
        rows = await self._database.rows(
            self._sql["entries"],
            status=RUNNING if paused else status,
            paused=paused,
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

    async def restarts(self, execution_id: int) -> list[int]:
        """The executions that go on with this one, the oldest first, at most MAX_RESTARTS."""
        rows = await self._database.run(self._sql["restarts"], execution_id=execution_id, limit=MAX_RESTARTS)
        return [row[0] for row in rows]

    async def initial(self, execution_id: int) -> dict[str, Any]:
        """What it was started with: the workload, and under the key ctx the initial ctx, if any; raises NotFound."""
        rows = await self._database.rows(self._sql["initial"], execution_id=execution_id)
        row = _one(rows, execution_id)
        return {**row["workload"], **({"ctx": row["ctx"]} if row["ctx"] else {})}

    async def follow(
        self, execution_id: int, *, after: int, type: str | None, limit: int
    ) -> tuple[list[RecordedEvent], int, str]:
        """The events after a position, the seq of the log's last event, and the status; raises NotFound. At most
        `limit` events, and none after the one that reaches PAGE_BYTES of payload."""
        rows = await self._database.rows(
            self._sql["follow"], execution_id=execution_id, after=after, type=type, limit=limit, bytes=PAGE_BYTES
        )
        head, status = _one(rows, execution_id)["head"], rows[0]["status"]
        found = [{name: value for name, value in row.items() if name not in ("head", "status")} for row in rows]
        return [RecordedEvent(**row) for row in found if row["seq"] is not None], head, status

    async def events(self, execution_id: int, *, after: int, limit: int) -> list[RecordedEvent]:
        """In order. An unknown execution has none."""
        rows = await self._database.rows(self._sql["events"], execution_id=execution_id, after=after, limit=limit)
        return [RecordedEvent(**row) for row in rows]

    async def events_page(
        self, execution_id: int, *, after: int, type: str | None, limit: int, offset: int
    ) -> tuple[list[RecordedEvent], int]:
        """The newest first, and how many there are in all; those after PAGE_BYTES of payload are without theirs."""
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
        self, execution_id: int, *, after: int, step: str | None, failed: bool, limit: int
    ) -> list[ReportedCommand]:
        """Workers' reports, in order; `failed`: only where an attempt failed or was lost. An unknown execution has
        none."""
        rows = await self._database.rows(
            self._sql["runs"], execution_id=execution_id, after=after, step=step, failed=failed, limit=limit
        )
        return [ReportedCommand(**row) for row in rows]

    async def outstanding(self, execution_id: int, parked: Sequence[str] = ()) -> list[OutstandingCommands]:
        """`parked`: the timers that do not count as delayed, since something else comes first."""
        rows = await self._database.rows(self._sql["under_way"], execution_id=execution_id, parked=list(parked))
        return [OutstandingCommands(**row) for row in rows]

    async def plan_hash(self, execution_id: int) -> str | None:
        """The hash of the playbook that it runs; None if there is no such execution."""
        rows = await self._database.run(self._sql["plan_hash"], execution_id=execution_id)
        return rows[0][0] if rows else None

    async def loop_results(
        self, execution_id: int, step: str, generation: int, after: int, max_bytes: int
    ) -> tuple[list[ResultRange], bool]:
        """A loop's results from the item `after` on, in order, with adjacent inline ranges merged, and whether there
        are more. None comes after the one that reaches `max_bytes` bytes."""
        loop = {"execution_id": execution_id, "step": step, "generation": generation}
        rows = await self._database.rows(
            self._sql["loop_results"], **loop, after=min(after, LOOP_ITEMS), bytes=max_bytes
        )
        parts = merge_inline(ResultRange(**row) for row in rows)
        return parts, bool(parts) and (
            await self._database.run(self._sql["has_results_from"], **loop, after=parts[-1].end)
        )[0][0]

    async def loop_stats(self, execution_id: int, step: str, generation: int) -> LoopStats | None:
        """None if the loop has not been opened."""
        loop = {"execution_id": execution_id, "step": step, "generation": generation}
        rows = await self._database.rows(self._sql["loop_stats"], **loop)
        return LoopStats(**rows[0]) if rows else None

    async def latest_generation(self, execution_id: int, step: str) -> int | None:
        """The latest generation of a loop step; None if it has not been opened."""
        rows = await self._database.run(self._sql["latest_generation"], execution_id=execution_id, step=step)
        return rows[0][0] if rows else None


def merge_inline(parts: Iterable[ResultRange]) -> list[ResultRange]:
    """Merge adjacent inline ranges."""
    merged: list[ResultRange] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is None or last.data is None or part.data is None or last.end != part.start:
            merged.append(part)
        else:
            last.data.extend(part.data)
            merged[-1] = ResultRange(last.start, part.end, last.data, None)
    return merged


def _one(rows: list[dict[str, Any]], execution_id: int) -> dict[str, Any]:
    if not rows:
        raise NotFound(f"there is no execution {execution_id}")
    return rows[0]
