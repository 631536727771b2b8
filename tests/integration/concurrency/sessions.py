"""Sessions that hold row locks, and a view of who waits for whom: what makes a schedule of two transactions certain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from noetl_serverless.store.connection import Connection, connect, sqlstate

LOCK_NOT_AVAILABLE = "55P03"
ROW = "SELECT 1 FROM noetl.command WHERE execution_id = :id AND command_id = :command FOR UPDATE"
# whoever waits for a lock of somebody else's in this database
WAITERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"""


class Sessions:
    def __init__(self, url: str) -> None:
        self._url = url
        self._open: list[Connection] = []
        self._watcher = self._connect()

    def begin(self) -> Connection:
        """A session in a transaction."""
        session = self._connect()
        session.run("BEGIN")
        return session

    def locks(self, session: Connection, execution_id: str, command_id: str) -> bool:
        """Take a command's row, unless somebody else holds it."""
        session.run("SAVEPOINT before")
        try:
            session.run(f"{ROW} NOWAIT", id=execution_id, command=command_id)
        except Exception as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            session.run("ROLLBACK TO SAVEPOINT before")
            return False
        return True

    def ask(self, sql: str, **params: Any) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self._watcher.run(sql, **params)
        return rows

    @property
    def waiting(self) -> int:
        """How many sessions wait for another's lock."""
        return int(self.ask(WAITERS)[0][0])

    async def until_waiting(self, work: Coroutine[Any, Any, Any], waiters: int = 1) -> asyncio.Task[Any]:
        """Begin `work`, and come back when it waits for a lock, the last of so many sessions, or has ended."""
        task = asyncio.ensure_future(work)
        async with asyncio.timeout(20):
            # nobody tells when a session begins to wait
            while not task.done() and self.waiting < waiters:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return task

    def close(self) -> None:
        for session in self._open:
            with suppress(Exception):
                session.close()

    def _connect(self) -> Connection:
        session = connect(self._url)
        self._open.append(session)
        return session
