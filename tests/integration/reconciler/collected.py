"""A deployment whose results are collected: two stores, executions as rows, a clock that can be moved, and the rules of
collection as a small model, worked out by looking at all executions instead of one family after another."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from noetl_serverless.engine.ids import EPOCH_MS
from noetl_serverless.errors import AccessDenied
from noetl_serverless.ports import ResultStore, StoredObject
from noetl_serverless.reconciler import retention
from noetl_serverless.reconciler.collection import GRACE_SECONDS, STRAY_AGE
from noetl_serverless.reconciler.retention import Retention
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.archives import Archives
from noetl_serverless.store.database import Database
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.store.result_objects import PostgresResultStore

TTL = timedelta(days=7)
GRACE = timedelta(seconds=GRACE_SECONDS)
TASKS = ("results", "orphans", "strays")
# PostgreSQL's own clock, that can be put forward: its functions look for `now` here first
CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.moved (by interval);
    INSERT INTO clock.moved VALUES ('0 s');
    CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT pg_catalog.now() + (SELECT by FROM clock.moved)';
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public', current_database());
    END $$"""
EXECUTION = """
    INSERT INTO noetl.execution (
        execution_id, catalog_id, path, version, plan_hash, parent_execution_id, restart_of, depth, status, head,
        folded, state, finished, workload, created_at, ended_at)
    VALUES (
        :id, 1, 'p', 1, 'h', :parent, :restart_of, 0, :status, 1,
        1, '{}', 0, '{}', now() - interval '60 days', :ended)"""
ARCHIVE = """
    INSERT INTO noetl.archive (
        archive_id, kind, status, month, first_id, last_id, executions, events, ended_at, files, registered_at,
        purged_at)
    VALUES (:id, 'archive', 'registered', '2026-01-01', :id, :id, 1, 1, :ended, '{}', now(), now())"""
ARCHIVED = """
    INSERT INTO noetl.archived (
        execution_id, archive_id, catalog_id, path, version, parent_execution_id, restart_of, status, head, finished,
        created_at, ended_at, blocks)
    VALUES (:id, :id, 1, 'p', 1, :parent, :restart_of, 'COMPLETED', 1, 0, now() - interval '60 days', :ended, '[]')"""
RESULT = """
    INSERT INTO noetl.result_ref (execution_id, key, ref, store, bytes, sha256, content_type, scope, expires_at)
    VALUES (:id, :key, 'noetl://x', :store, 1, '', 'a/json', :scope, :expires)"""


class Killed(BaseException):
    """What a test's kill -9 looks like inside."""


class FaultyStore(ResultStore):
    """Another store, that fails. `failing`: how likely a call is to do so; `kills`: how likely the process is to be
    killed after a deletion; `refused`: keys that cannot be deleted."""

    def __init__(self, inner: ResultStore, name: str, random: Random) -> None:
        self.name = name
        self.failing = self.kills = 0.0
        self.calls = 0
        self.refused: set[str] = set()
        self._inner = inner
        self._random = random

    async def put(self, key: str, data: bytes) -> StoredObject:
        return await self._inner.put(key, data)

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        return await self._inner.put_file(key, file, size)

    async def get(self, key: str) -> bytes:
        return await self._inner.get(key)

    async def get_file(self, key: str, file: int) -> int:
        return await self._inner.get_file(key, file)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await self._inner.get_range(key, offset, length)

    async def delete(self, key: str) -> None:
        self._call()
        if key in self.refused:
            raise AccessDenied(f"{key} is locked")
        await self._inner.delete(key)
        if self._random.random() < self.kills:
            raise Killed

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        self._call()
        async for key in self._inner.list(prefix, after):
            yield key
            self._call()

    async def all(self) -> set[str]:
        return {key async for key in self._inner.list("")}

    def _call(self) -> None:
        self.calls += 1
        if self._random.random() < self.failing:
            raise OSError("the store is away")


@dataclass(kw_only=True)
class Run:
    """`ended`: None while it runs. `is_known`: whether the database knows it."""

    id: int
    parent: int | None = None
    restart_of: int | None = None
    ended: datetime | None = None
    is_known: bool = True


@dataclass(kw_only=True)
class Row:
    of: int
    scope: str = "execution"
    expires: datetime | None = None


@dataclass(kw_only=True)
class Stored:
    key: str
    store: str
    rows: list[Row] = field(default_factory=list)


class Deployment:
    """`second`: the other store beside a folder, kv (which is in memory here) or postgres."""

    def __init__(self, database: Database, folder: Path, random: Random, second: str) -> None:
        self.database = database
        self.random = random
        self.disk = FaultyStore(FsspecResultStore(folder.as_uri()), "disk", random)
        memory = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        inner: ResultStore = PostgresResultStore(database, chunk_bytes=1000) if second == "postgres" else memory
        self.other = FaultyStore(inner, second, random)
        self.stores = {store.name: store for store in (self.disk, self.other)}
        self.runs: dict[int, Run] = {}
        self.stored: list[Stored] = []
        self.moved = timedelta()
        self._numbers = count()

    # -- what is there

    async def execution(self, *, archived: bool = False, known: bool = True, days: float = 50, **of: Any) -> Run:
        """`days`: how long ago its id was made."""
        made = self.now() - timedelta(days=days)
        run = Run(id=((int(made.timestamp() * 1000) - EPOCH_MS) << 22) + next(self._numbers), is_known=known, **of)
        self.runs[run.id] = run
        values = {"id": run.id, "parent": run.parent, "restart_of": run.restart_of, "ended": run.ended}
        if archived:
            assert run.ended is not None
            await self.database.run(ARCHIVE, id=run.id, ended=run.ended)
            await self.database.run(ARCHIVED, **values)
        elif known:
            await self.database.run(EXECUTION, status="RUNNING" if run.ended is None else "COMPLETED", **values)
        return run

    async def store(self, run: Run, *rows: Row, store: str = "disk", name: str = "", content: bytes = b"x") -> Stored:
        """An object of the execution, and the rows that name it."""
        key = f"{run.id}/step/{name or f'n{next(self._numbers)}.json'}"
        await self.stores[store].put(key, content)
        for row in rows:
            values = {"key": key, "store": store, "scope": row.scope, "expires": row.expires}
            await self.database.run(RESULT, id=row.of, **values)
        self.stored.append(Stored(key=key, store=store, rows=list(rows)))
        return self.stored[-1]

    # -- the clock

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    async def move(self, by: timedelta) -> None:
        self.moved += by
        await self.database.run("UPDATE clock.moved SET by = make_interval(secs => :s)", s=self.moved.total_seconds())

    # -- collection

    def retention(self, *, result_ttl_days: float = TTL.days) -> Retention:
        async def nothing() -> None: ...

        return Retention(
            Archives(self.database),
            MaintenanceTasks(self.database),
            lambda: ResultStores(self.disk, kv=self.other),
            nothing,
            now=self.now,
            result_ttl_days=result_ttl_days,
        )

    async def work(self, *reconcilers: Retention, tasks: tuple[str, ...] = TASKS) -> None:
        """A task of each, all at once: each another one, or all the same. Those that are killed are begun again by a
        later call."""
        await self.database.run("UPDATE noetl.chore SET due_at = now() + interval '1 h'")
        is_shared = self.random.random() < 0.3
        for name in self.random.sample(tasks, 1 if is_shared else min(len(tasks), len(reconcilers))):
            await self.database.run("UPDATE noetl.chore SET due_at = now() WHERE name = :name", name=name)
        # as if one of them took longer than until the task is due again
        with patch.object(retention, "TASK_PAUSE_SECONDS", 0.0 if is_shared else retention.TASK_PAUSE_SECONDS):
            ends = await asyncio.gather(*(it.run_next_task() for it in reconcilers), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, Killed):
                raise end

    async def finish(self, reconciler: Retention | None = None, tasks: tuple[str, ...] = TASKS) -> dict[str, int]:
        """Each task, until no more is left to do; what was done in all."""
        reconciler = reconciler or self.retention()
        done: dict[str, int] = {}
        for name in tasks:
            due = True
            while due:
                await self.database.run(
                    "UPDATE noetl.chore SET due_at = now() + CASE WHEN name = :name THEN interval '0' "
                    "ELSE interval '1 h' END",
                    name=name,
                )
                for kind, number in (await reconciler.run_next_task()).items():
                    done[kind] = done.get(kind, 0) + number
                [[due]] = await self.database.run(
                    "SELECT due_at <= now() FROM noetl.chore WHERE name = :name", name=name
                )
        return done

    async def objects(self) -> set[tuple[str, str]]:
        return {(name, key) for name, store in self.stores.items() for key in await store.all()}

    async def rows(self) -> set[tuple[int, str, str]]:
        return {tuple(row) for row in await self.database.run("SELECT execution_id, store, key FROM noetl.result_ref")}

    def described(self, objects: set[tuple[str, str]]) -> list[str]:
        """What is known of these, for whoever reads that a test failed."""
        found = []
        for it in self.stored:
            if (it.store, it.key) in objects:
                run = self.runs[int(it.key.split("/")[0])]
                users = [f"{user.id}: {user.ended and self.now() - user.ended}" for user in self._users(run)]
                rows = [(row.of, row.scope, row.expires and str(self.now() - row.expires)) for row in it.rows]
                found.append(f"{it.store} {it.key}: rows {rows}, known {run.is_known}, users {users}")
        return found

    # -- the rules

    def expected_objects(self) -> set[tuple[str, str]]:
        return {(it.store, it.key) for it in self.stored if not self._is_over(it)}

    def expected_rows(self) -> set[tuple[int, str, str]]:
        return {(row.of, it.store, it.key) for it in self.stored for row in it.rows if not self._is_row_over(row)}

    def _is_over(self, stored: Stored) -> bool:
        owner = self.runs[int(stored.key.split("/")[0])]
        kept = [row for row in stored.rows if not self._has_expired(row)]
        if any(row.scope == "permanent" for row in kept):
            return False
        if not owner.is_known:
            made = ((owner.id >> 22) + EPOCH_MS) / 1000
            is_stray = made < (self.now() - STRAY_AGE).timestamp()
            return not kept and (bool(stored.rows) or is_stray)
        if self._was_last_used(owner, before=self.now() - TTL):
            return True
        if not stored.rows:
            return self._was_last_used(owner, before=self.now() - GRACE)
        if any(row.scope != "step" for row in kept):
            return False
        return not kept or self._was_last_used(owner, before=self.now() - GRACE)

    def _is_row_over(self, row: Row) -> bool:
        if self._has_expired(row) or row.scope == "permanent":
            return self._has_expired(row)
        return self._was_last_used(self.runs[row.of], before=self.now() - (GRACE if row.scope == "step" else TTL))

    def _has_expired(self, row: Row) -> bool:
        return row.expires is not None and row.expires < self.now() - GRACE

    def _was_last_used(self, run: Run, before: datetime) -> bool:
        """Whether it and all that may use its results ended before."""
        return all(user.ended is not None and user.ended < before for user in self._users(run))

    def _users(self, run: Run) -> Iterator[Run]:
        """It, all that go on with it, and the same of those above it that ended later than it."""
        line = [run]
        while line:
            user = line.pop()
            yield user
            line += [it for it in self.runs.values() if it.restart_of == user.id]
        above = self.runs.get(run.parent) if run.parent is not None else None
        if above is not None and run.ended is not None and (above.ended is None or above.ended >= run.ended):
            yield from self._users(above)
