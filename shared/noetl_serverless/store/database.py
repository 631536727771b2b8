"""A few connections to PostgreSQL, awaited from the event loop; a thread only for whole transactions.

Safe behind a transaction pooler: no LISTEN, no session settings, and a prepared statement is called again if the pooler
gave the connection another server. One statement is one transaction unless `transaction` is used.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pg8000.core import Context
from pg8000.exceptions import DatabaseError, InterfaceError

from ..errors import Unavailable
from ..telemetry import metrics
from .async_connection import AsyncConnection
from .connection import TRANSIENT_STATES, Connection, as_dicts, connect, reason_of, sqlstate
from .prepared import Prepared, Value

T = TypeVar("T")

# two transactions conflicted, and this one was rolled back as a whole: it is run again
SERIALIZATION_STATES = ("40P01", "40001")
MAX_TRANSACTION_ATTEMPTS = 6
MAX_PREPARE_ATTEMPTS = 20


class Database:
    """A bounded pool of connections, the one used last taken first. Every method raises Unavailable while PostgreSQL is
    away. The statement of a caller that is cancelled still runs to its end."""

    def __init__(self, url: str | Callable[[], str], connections: int) -> None:
        """`url`, or a function that returns it, called in a thread for each new connection: credentials may expire."""
        self._url = url
        self._connections = connections
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._permits = asyncio.Semaphore(connections)
        self._idle: list[AsyncConnection] = []

    async def run(self, sql: str, **params: Any) -> list[Any]:
        """Rows as lists; parameters are bound as `:name`."""
        return (await self._execute(sql, params)).rows or []

    async def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows as dicts by column name."""
        answer = await self._execute(sql, params)
        return as_dicts(answer.columns, answer.rows)

    async def call(self, statement: Prepared, values: Sequence[Value]) -> list[Any]:
        """Rows as lists. The statement is prepared in each connection that runs it."""
        return (await self._retry(lambda: self._call(statement, values))).rows or []

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction in a thread: rolled back if it raises, again if it conflicts with another."""
        return await self._retry(lambda: self._transaction(work))

    async def _retry(self, work: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, MAX_TRANSACTION_ATTEMPTS):
            try:
                return await work()
            except DatabaseError as error:
                if sqlstate(error) not in SERIALIZATION_STATES:
                    raise
                metrics.collisions.inc()
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
        try:
            return await work()
        except DatabaseError as error:
            if sqlstate(error) in SERIALIZATION_STATES:
                raise Unavailable(
                    f"PostgreSQL rolled back the transaction {MAX_TRANSACTION_ATTEMPTS} times: {reason_of(error)}"
                ) from error
            raise

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        def in_transaction() -> T:
            connection.run("BEGIN")
            try:
                result = work(connection)
            except BaseException:
                connection.run("ROLLBACK")
                raise
            connection.run("COMMIT")
            return result

        def on_end(running: asyncio.Future[T]) -> None:
            error = running.exception()
            pooled.broken = isinstance(error, Exception) and isinstance(_unavailable(error), Unavailable)
            if not pooled.broken:
                pooled.attach()
            self._release(pooled)

        pooled = await self._acquire()
        connection = pooled.connection
        pooled.detach()
        running = asyncio.get_running_loop().run_in_executor(None, in_transaction)
        running.add_done_callback(on_end)
        try:
            return await asyncio.shield(running)
        except (InterfaceError, OSError, DatabaseError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Close once the statements under way have ended; later calls raise Unavailable."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            for _ in range(self._connections):
                await self._permits.acquire()
            for _ in range(self._connections):
                self._permits.release()
        self._abort_idle()

    async def _execute(self, sql: str, params: dict[str, Any]) -> Context:
        return await self._retry(lambda: self._execute_once(sql, params))

    async def _execute_once(self, sql: str, params: dict[str, Any]) -> Context:
        _, answer = await self._start(lambda pooled: pooled.execute(sql, params))
        try:
            return await answer
        except (InterfaceError, DatabaseError) as error:
            raise _unavailable(error) from error

    async def _call(self, statement: Prepared, values: Sequence[Value]) -> Context:
        for _ in range(MAX_PREPARE_ATTEMPTS):
            pooled, answer = await self._start(lambda pooled: pooled.call(statement, values))
            try:
                return await answer
            except (InterfaceError, DatabaseError) as error:
                # nothing was run: a pooler gave the connection another server, which knows the statement or does not
                if pooled.connection.is_other_server(statement, sqlstate(error)):
                    continue
                raise _unavailable(error) from error
        raise Unavailable(f"PostgreSQL lost a prepared statement {MAX_PREPARE_ATTEMPTS} times")

    async def _start(
        self, send: Callable[[AsyncConnection], asyncio.Future[Context]]
    ) -> tuple[AsyncConnection, asyncio.Future[Context]]:
        """The connection that the statement was sent on, which releases itself, and the answer to come."""
        pooled = await self._acquire()
        try:
            return pooled, send(pooled)
        except BaseException:
            self._release(pooled)
            raise

    async def _acquire(self) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # the event loop that watched the old connections is gone
            self._abort_idle()
            self._loop, self._permits = loop, asyncio.Semaphore(self._connections)
        await self._permits.acquire()
        while self._idle:
            pooled = self._idle.pop()
            if not pooled.broken and not pooled.has_unsolicited_data():
                return pooled
            pooled.close()
        try:
            if self._closed:
                raise Unavailable("the database is closed")
            return AsyncConnection(await self._connect(loop), loop, self._release)
        except BaseException:
            self._permits.release()
            raise

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        connecting = loop.run_in_executor(None, self._open)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_quit)
            raise

    def _open(self) -> Connection:
        return connect(self._url if isinstance(self._url, str) else self._url())

    def _release(self, pooled: AsyncConnection) -> None:
        if pooled.broken:
            pooled.close()
            # the same failure may have broken the idle ones, and each would cost a caller the timeout
            self._abort_idle()
        else:
            self._idle.append(pooled)
        self._permits.release()

    def _abort_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _quit(connecting: asyncio.Future[Connection]) -> None:
    if connecting.exception() is None:
        connecting.result().quit()


def _unavailable(error: Exception) -> Exception:
    """Unavailable if the state of the connection or of the server is the cause; else the error itself."""
    if isinstance(error, DatabaseError):
        if sqlstate(error) in TRANSIENT_STATES:
            return Unavailable(f"PostgreSQL is not available: {reason_of(error)}")
    elif isinstance(error, (InterfaceError, OSError)):
        return Unavailable(f"the connection to PostgreSQL was lost: {reason_of(error)}")
    return error
