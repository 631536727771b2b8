"""Batches of executions that leave the database: planned, written by a worker, registered, purged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import orjson

from .database import Database
from .ids import fresh_id
from .queries import load

Kind = Literal["archive", "expiry"]

# of one batch; an execution with more events is a batch of its own
MAX_EXECUTIONS = 1000
MAX_EVENTS = 100_000
# of one page, so that it fits into a function's response
PAGE_BYTES = 2 * 1024 * 1024
# how long archived events wait for their partition to be dropped before they are deleted, in seconds
PURGE_AFTER_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """A batch that this attempt is to write."""

    archive_id: int
    attempt: int
    month: date
    first_id: int
    last_id: int
    executions: int
    events: int


@dataclass(frozen=True, slots=True)
class ArchiveBatch:
    """The current state of a batch. `month` is YYYY-MM; `files`: name -> {"key", "bytes", "sha256", "rows"}."""

    archive_id: int
    status: str
    month: str
    first_id: int
    last_id: int
    executions: int
    events: int
    files: dict[str, dict[str, Any]] | None
    attempts: int
    error: str | None
    created_at: datetime
    registered_at: datetime | None
    purged_at: datetime | None


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    month: str
    executions: int
    events: int


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where an archived execution is: `blocks` [[first seq, offset, length]] of the log file at `key`."""

    execution_id: int
    head: int
    status: str
    blocks: list[list[int]]
    key: str


@dataclass(frozen=True, slots=True)
class ExpiringBatch:
    """A batch of which something is still to be deleted: the results of `ids`, and its files."""

    archive_id: int
    attempt: int
    status: str
    files: dict[str, dict[str, Any]] | None
    ids: list[int]


class Archives:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("archive")

    # -- planning

    async def plan(
        self, kind: Kind, cutoff: datetime, *, max_executions: int = MAX_EXECUTIONS, max_events: int = MAX_EVENTS
    ) -> int | None:
        """Plan a batch of executions that ended before `cutoff`; its id, None if there are none."""
        rows = await self._database.run(
            self._sql["plan"],
            id=fresh_id(),
            kind=kind,
            cutoff=cutoff,
            max_executions=max_executions,
            max_events=max_events,
        )
        return None if rows[0][0] is None else int(rows[0][0])

    async def due(self, cutoff: datetime, limit: int = 100_000) -> list[PlannedBatch]:
        """What an archive run would take, by month; counts at most `limit` executions."""
        return [PlannedBatch(**row) for row in await self._database.rows(self._sql["due"], cutoff=cutoff, limit=limit)]

    async def count_planned(self) -> tuple[int, int]:
        """How many batches wait for their files, and how many of them no worker is writing."""
        planned, unleased = (await self._database.run(self._sql["count_planned"]))[0]
        return int(planned), int(unleased)

    # -- writing

    async def claim(self, worker: str, lease: float) -> ClaimedBatch | None:
        rows = await self._database.rows(self._sql["claim"], worker=worker, lease=lease)
        return ClaimedBatch(**rows[0]) if rows else None

    async def extend(self, archive_id: int, attempt: int, lease: float) -> bool:
        """Whether the attempt still holds the batch."""
        return bool(await self._database.run(self._sql["extend"], id=archive_id, attempt=attempt, lease=lease))

    async def fail(self, archive_id: int, attempt: int, error: str) -> None:
        await self._database.run(self._sql["fail"], id=archive_id, attempt=attempt, error=error)

    async def executions(self, archive_id: int, after: int, limit: int = PAGE_BYTES) -> list[tuple[int, str]]:
        """(execution id, JSON of its row, results and commands) after execution `after`, in order; empty at the end."""
        rows = await self._database.run(self._sql["executions"], id=archive_id, after=after, bytes=limit)
        return [(row[0], row[1]) for row in rows]

    async def events(self, archive_id: int, after: int, seq: int, limit: int = PAGE_BYTES) -> list[Sequence[Any]]:
        """The events after event `seq` of execution `after`, in order: execution id, seq, cause, type, step,
        generation, command, instant in microseconds, payload as JSON."""
        return await self._database.run(self._sql["events"], id=archive_id, after=after, seq=seq, bytes=limit)

    async def register(
        self, archive_id: int, attempt: int, files: dict[str, Any] | None, found: Sequence[dict[str, Any]] = ()
    ) -> Literal["registered", "stale", "incomplete"]:
        """Let the batch be read from its files from now on. `found`: [{execution_id, events, blocks}]."""
        rows = await self._database.run(
            self._sql["register"],
            id=archive_id,
            attempt=attempt,
            files=None if files is None else orjson.dumps(files).decode(),
            found=orjson.dumps(list(found)).decode(),
        )
        return rows[0][0]  # type: ignore[no-any-return]

    # -- archived batches

    async def entries(self, before: int | None = None, limit: int = 100) -> list[ArchiveBatch]:
        """The newest first."""
        rows = await self._database.rows(self._sql["entries"], before=before, limit=limit)
        return [ArchiveBatch(**row) for row in rows]

    async def by_ids(self, ids: Sequence[int]) -> list[ArchiveBatch]:
        return [ArchiveBatch(**row) for row in await self._database.rows(self._sql["by_ids"], ids=list(ids))]

    async def place(self, execution_id: int) -> ArchivePlace | None:
        rows = await self._database.rows(self._sql["place"], execution_id=execution_id)
        return ArchivePlace(**rows[0]) if rows else None

    async def children(self, execution_id: int) -> list[str]:
        return [row[0] for row in await self._database.run(self._sql["children"], execution_id=execution_id)]

    async def drop_partitions(self) -> list[str]:
        """Drop the partitions of months that hold no events that are still needed; returns their names."""
        return list((await self._database.run(self._sql["drop_partitions"]))[0][0])

    async def purge(self, after_seconds: float = PURGE_AFTER_SECONDS) -> int | None:
        """Delete the events of one batch whose partition will not be dropped soon; how many, None if there is none."""
        count = (await self._database.run(self._sql["purge"], after_seconds=after_seconds))[0][0]
        return None if count is None else int(count)

    # -- deletion

    async def mark_expired(self, cutoff: datetime, limit: int) -> int:
        """Mark archived batches that ended before `cutoff` for deletion; how many."""
        return len(await self._database.run(self._sql["mark_expired"], cutoff=cutoff, limit=limit))

    async def expiring(self, limit: int) -> list[ExpiringBatch]:
        return [ExpiringBatch(**row) for row in await self._database.rows(self._sql["expiring"], limit=limit)]

    async def clear_files(self, archive_id: int) -> None:
        """Record that the batch's files are deleted."""
        await self._database.run(self._sql["clear_files"], id=archive_id)

    async def delete_rows(self) -> None:
        """Delete the rows of batches of which nothing is left."""
        await self._database.run(self._sql["delete_rows"])
