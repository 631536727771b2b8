"""Work of the reconciler that is not urgent, and results and cached secrets that have expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

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

    async def families(self, tops: Sequence[EndedExecution]) -> list[int]:
        """The executions and those below them, by id."""
        ids, ends = [it.execution_id for it in tops], [it.ended_at for it in tops]
        return [row[0] for row in await self._database.run(self._sql["families"], ids=ids, ends=ends)]

    # -- results: each as (execution id, key)

    async def expired_results(self, store: str, grace: float, limit: int) -> list[tuple[int, str]]:
        """Those of a store that expired `grace` seconds ago, the earliest first."""
        rows = await self._database.run(self._sql["expired_results"], store=store, grace=grace, limit=limit)
        return [(row[0], row[1]) for row in rows]

    async def deleted_results(self, store: str, grace: float, limit: int) -> list[tuple[int, str]]:
        """Those that users have put into a store and deleted `grace` seconds ago, and whose rows are still there."""
        rows = await self._database.run(self._sql["deleted_results"], store=store, grace=grace, limit=limit)
        return [(row[0], row[1]) for row in rows]

    async def scoped_results(
        self, store: str, ids: Sequence[int], scopes: Sequence[str], limit: int
    ) -> list[tuple[int, str]]:
        """At most `limit` of these executions, in a store, of these scopes."""
        rows = await self._database.run(
            self._sql["scoped_results"], store=store, ids=list(ids), scopes=list(scopes), limit=limit
        )
        return [(row[0], row[1]) for row in rows]

    async def step_results(self, store: str, ids: Sequence[int], limit: int) -> list[tuple[int, str]]:
        """As `scoped_results`, of scope step, without a look at the others."""
        rows = await self._database.run(self._sql["step_results"], store=store, ids=list(ids), limit=limit)
        return [(row[0], row[1]) for row in rows]

    async def named_results(
        self, store: str, keys: Sequence[str], grace: float, ignored: Sequence[str] = ()
    ) -> set[str]:
        """Those of `keys` that a result of the store has which has not expired for `grace` seconds, of another scope
        than `ignored`, whichever execution it is of."""
        rows = await self._database.run(
            self._sql["named_results"], store=store, keys=list(keys), grace=grace, ignored=list(ignored)
        )
        return {row[0] for row in rows}

    async def keep_results(
        self, ids: Sequence[int], kept: Literal["execution", "permanent"], scopes: Sequence[str]
    ) -> None:
        """Record of those of the executions that have results of `scopes` that these are about to be deleted."""
        await self._database.run(self._sql["keep_results"], ids=list(ids), kept=kept, scopes=list(scopes))

    async def delete_result_rows(self, results: Sequence[tuple[int, str]]) -> None:
        """Delete their rows, except those that somebody else has locked."""
        rows = [{"execution_id": id, "key": key} for id, key in results]
        await self._database.run(self._sql["delete_result_rows"], keys=orjson.dumps(rows).decode())

    async def unknown_executions(self, ids: Sequence[int]) -> list[int]:
        """Those of which the database knows nothing."""
        return [row[0] for row in await self._database.run(self._sql["unknown_executions"], ids=list(ids))]

    # -- the rest

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
