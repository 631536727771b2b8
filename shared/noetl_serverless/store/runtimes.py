"""The registry of components: instances of the functions, and what else registers itself.

A function that runs only while it is invoked cannot send heartbeats in between. Its instances therefore say `idle` when
their work has ended, and only one that went away in the middle of its work is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ..errors import InvalidRequest
from ..protocol import Instance
from .database import Database
from .queries import load

# seconds without a heartbeat after which a component that was not idle is dead
DEAD_AFTER_SECONDS: Final = 60.0
# and after which it is forgotten
FORGOTTEN_AFTER_SECONDS: Final = 3600.0
# of what a component says of itself, labels and meta included
MAX_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One component. `state`: its status, or `dead`."""

    runtime_id: int
    kind: str
    name: str
    pool: str | None
    runtime: str | None
    uri: str | None
    status: str
    capacity: int | None
    running: int | None
    labels: Any
    version: str | None
    pid: int | None
    hostname: str | None
    meta: Any
    heartbeat: datetime
    created_at: datetime
    updated_at: datetime
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOfWorkers:
    """The instances of a pool; all but `dead` and `heartbeat`, the latest, are of those that are not dead."""

    pool: str
    instances: int
    dead: int
    versions: list[str]
    capacity: int
    running: int
    heartbeat: datetime
    state: str


class Runtimes:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("runtime")

    async def register(self, instance: Instance) -> int | None:
        """Its id; None for one that has ended and is not there. Raises InvalidRequest if it says too much."""
        document = instance.model_dump_json(exclude_none=True)
        if len(document) > MAX_BYTES:
            raise InvalidRequest(f"{instance.name}: a component may say at most {MAX_BYTES} bytes of itself")
        [row] = await self._database.run(self._sql["register"], instance=document)
        return None if row[0] is None else int(row[0])

    async def heartbeat(
        self, kind: str, name: str, *, status: str | None = None, running: int | None = None
    ) -> tuple[int, str | None] | None:
        """(id, runtime); None if it is not registered."""
        rows = await self._database.run(self._sql["heartbeat"], kind=kind, name=name, status=status, running=running)
        return (int(rows[0][0]), rows[0][1]) if rows else None

    async def kinds(self, name: str) -> list[str]:
        """The kinds of the components of this name, in order."""
        return [str(row[0]) for row in await self._database.run(self._sql["kinds"], name=name)]

    async def delete(self, kind: str, name: str) -> bool:
        return bool(await self._database.run(self._sql["delete"], kind=kind, name=name))

    async def entries(
        self,
        *,
        kind: str | None = None,
        pool: str | None = None,
        runtime: str | None = None,
        state: str | None = None,
        after: int = 0,
        limit: int,
    ) -> list[Runtime]:
        """In the order of their registration, after the id `after`."""
        rows = await self._database.rows(
            self._sql["entries"],
            kind=kind,
            pool=pool,
            runtime=runtime,
            state=state,
            after=after,
            limit=limit,
            dead_after=DEAD_AFTER_SECONDS,
        )
        return [Runtime(**row) for row in rows]

    async def pools(self) -> list[PoolOfWorkers]:
        """Those that have an instance, by name."""
        rows = await self._database.rows(self._sql["pools"], dead_after=DEAD_AFTER_SECONDS)
        return [PoolOfWorkers(**row) for row in rows]

    async def prune(self, limit: int) -> int:
        """Delete at most so many that are forgotten; how many."""
        return len(await self._database.run(self._sql["prune"], age=FORGOTTEN_AFTER_SECONDS, limit=limit))
