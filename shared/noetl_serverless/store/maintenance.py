"""Work of the reconciler that is not urgent, and results and cached secrets that have expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from .database import Database
from .queries import load
from .runtimes import Runtimes

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    name: str
    position: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """`topmost`: no execution above it ended later, so none can still use what it made."""

    execution_id: int
    ended_at: datetime
    topmost: bool


class MaintenanceTasks:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("maintenance")

    async def claim(self, pause: float) -> MaintenanceTask | None:
        """The task that has been due longest, if any; it is due again in `pause` seconds."""
        rows = await self._database.rows(self._sql["claim"], pause=pause)
        return MaintenanceTask(**rows[0]) if rows else None

    async def reschedule(self, name: str, delay: float = 0.0) -> None:
        """Make it due in `delay` seconds, because there is more to do."""
        await self._database.run(self._sql["reschedule"], name=name, delay=delay)

    async def save_position(self, name: str, position: dict[str, Any]) -> None:
        await self._database.run(self._sql["save_position"], name=name, position=orjson.dumps(position).decode())

    async def ended(self, after: tuple[datetime, int], cutoff: datetime, limit: int) -> list[EndedExecution]:
        """Executions in the order of their ends, after (instant, execution id) and before `cutoff`."""
        rows = await self._database.rows(self._sql["ended"], at=after[0], id=after[1], cutoff=cutoff, limit=limit)
        return [EndedExecution(**row) for row in rows]

    async def descendants(self, root: EndedExecution) -> list[int]:
        """The execution and those below it."""
        return [
            row[0]
            for row in await self._database.run(self._sql["descendants"], id=root.execution_id, ended=root.ended_at)
        ]

    async def expired_results(self, limit: int) -> list[tuple[int, str, str]]:
        """(execution id, store, key) of results whose own expiry has passed."""
        return [(row[0], row[1], row[2]) for row in await self._database.run(self._sql["expired_results"], limit=limit)]

    async def prune_limits(self, limit: int) -> int:
        """Forget starts and executions that limits have counted and no longer need; returns how many."""
        return int((await self._database.run(self._sql["prune_limits"], limit=limit))[0][0])

    async def delete_expired_secrets(self, limit: int) -> int:
        return len(await self._database.run(self._sql["delete_expired_secrets"], limit=limit))

    async def delete_secrets_of_ended(self, after: int, limit: int) -> tuple[int, int | None]:
        """(how many were deleted, the execution to continue after), the latter None if no more are left."""
        [row] = await self._database.rows(self._sql["delete_secrets_of_ended"], after=after, limit=limit)
        return row["deleted"], row["last"] if row["looked_at"] == limit else None

    async def forget_runtimes(self, limit: int) -> int:
        """As `Runtimes.prune`."""
        return await Runtimes(self._database).prune(limit)

    async def delete_result_rows(self, keys: Sequence[tuple[int, str]]) -> None:
        """Delete the rows of these results."""
        rows = [{"execution_id": id, "key": key} for id, key in keys]
        await self._database.run(self._sql["delete_result_rows"], keys=orjson.dumps(rows).decode())
