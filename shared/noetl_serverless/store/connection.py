"""PostgreSQL through pg8000: a few connections, awaited from the event loop; a thread only for whole transactions.

Safe behind a transaction pooler: unnamed statements, no LISTEN, no session settings. One statement is one transaction
unless `transaction` is used.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson
import pg8000.native
from pg8000.core import BIND, DESCRIBE, PARSE, QUERY, SYNC_MSG, Context, make_params
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import to_statement

from ..errors import Unavailable
from ..postgres_target import PostgresTarget
from ..telemetry import metrics
from .async_connection import AsyncConnection

T = TypeVar("T")

DESCRIBE_PORTAL = DESCRIBE + (6).to_bytes(4, "big") + b"P\x00"
EXECUTE_ALL = b"E" + (9).to_bytes(4, "big") + b"\x00" + bytes(4)
JSON_OIDS = (114, 3802)
TIMESTAMPTZ_OID = 1184
# the server is going, gone, starting or full: the same statement may succeed later
TRANSIENT_STATES = ("57P01", "57P02", "57P03", "53300", "53400", "08000", "08003", "08006")
# two transactions stood in each other's way, and this one was undone whole: it is done again
SERIALIZATION_STATES = ("40P01", "40001")
MAX_TRANSACTION_ATTEMPTS = 6


class Connection(pg8000.native.Connection):
    """pg8000's connection with one round trip per bound statement (pg8000 makes three), and quicker readers of JSON and
    instants (a server in UTC writes them in ISO 8601; none of ours is infinite)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for oid in JSON_OIDS:
            self.register_in_adapter(oid, orjson.loads)
        self.register_in_adapter(TIMESTAMPTZ_OID, datetime.fromisoformat)

    @property
    def socket(self) -> socket.socket:
        return self._usock  # type: ignore[no-any-return]

    def run(self, sql: str, stream: Any = None, types: Any = None, **params: Any) -> Any:
        if stream is not None or types is not None:
            return super().run(sql, stream=stream, types=types, **params)
        request, self._context = self.request(sql, params)
        try:
            self._sock.write(request)
            self._sock.flush()
        except (OSError, AttributeError, ValueError) as error:
            raise InterfaceError("network error") from error
        self.handle_messages(self._context)
        return self._context.rows

    def request(self, sql: str, params: dict[str, Any]) -> tuple[bytes, Context]:
        """What to send for a statement, and what its answer is to be read into."""
        encoding = self._client_encoding
        if not params:
            return _message(QUERY, sql.encode(encoding) + b"\x00"), Context(sql)
        statement, make_vals = _statement(sql)
        values = make_params(self.py_types, make_vals(params))
        # in pieces that are put together once: what is bound may be large
        bind = [b"\x00\x00\x00\x00", len(values).to_bytes(2, "big")]
        for value in values:
            if value is None:
                bind.append(b"\xff\xff\xff\xff")
            else:
                encoded = value.encode(encoding)
                bind += (len(encoded).to_bytes(4, "big"), encoded)
        bind.append(b"\x00\x00")
        parse = _message(PARSE, b"\x00" + statement.encode(encoding) + b"\x00\x00\x00")
        size = (sum(map(len, bind)) + 4).to_bytes(4, "big")
        return b"".join((parse, BIND, size, *bind, DESCRIBE_PORTAL, EXECUTE_ALL, SYNC_MSG)), Context(statement)

    def is_lost_after(self, error: BaseException | None) -> bool:
        """Whether nothing more is to be asked of it after such an answer."""
        return error is not None and sqlstate(error) in TRANSIENT_STATES

    def abort(self) -> None:
        """Close it without a word: what cannot be sent would stay in the buffer, and be tried again at its end."""
        for end in (self._sock, self._usock):
            try:
                end.close()
            except (OSError, ValueError):
                continue

    def quit(self) -> None:
        try:
            self.close()
        except (InterfaceError, OSError, ValueError, AttributeError):
            return  # already gone


def _message(code: bytes, data: bytes) -> bytes:
    return code + (len(data) + 4).to_bytes(4, "big") + data


@lru_cache(maxsize=256)
def _statement(sql: str) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]:
    statement, make_vals = to_statement(sql)
    return statement, make_vals


def connect(url: str, timeout: float = 10.0) -> Connection:
    """A connection to `postgresql://user:password@host:port/database[?sslmode=MODE&sslrootcert=FILE]`: see
    `PostgresTarget`.

    Raises Unavailable if the server does not take it, ValueError for what is no such URL.
    """
    target = PostgresTarget.of_url(url)
    target = replace(target, user=target.user or "postgres", database=target.database or "postgres")
    try:
        connection = Connection(**target.arguments(), timeout=timeout, application_name="noetl")
    except (InterfaceError, DatabaseError, OSError) as error:
        raise Unavailable(f"PostgreSQL at {target.host}:{target.port} does not answer: {_reason(error)}") from error
    connection._usock.settimeout(None)
    if connection._usock.family != socket.AF_UNIX:
        # a statement larger than the write buffer leaves in pieces, and the last must not wait for the first's answer
        connection._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _reason(error: BaseException) -> str:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return str(error.args[0].get("M", error))
    return str(error)


def sqlstate(error: BaseException) -> str | None:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return error.args[0].get("C")
    return None


class Database:
    """A bounded set of connections, the one used last taken first. Every method raises Unavailable while PostgreSQL is
    away. A caller who is cancelled leaves its statement to end by itself."""

    def __init__(self, url: str | Callable[[], str], connections: int = 4) -> None:
        """`url`, or what gives it, in a thread, for each new connection: credentials may be short-lived."""
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
        names = [column["name"] for column in answer.columns or []]
        return [dict(zip(names, row, strict=True)) for row in answer.rows or []]

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, in a thread, rolled back if it raises; again if it collides with another."""
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
                    f"PostgreSQL undid the transaction {MAX_TRANSACTION_ATTEMPTS} times: {_reason(error)}"
                ) from error
            raise

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        def whole() -> T:
            connection.run("BEGIN")
            try:
                result = work(connection)
            except BaseException:
                connection.run("ROLLBACK")
                raise
            connection.run("COMMIT")
            return result

        def ended(running: asyncio.Future[T]) -> None:
            error = running.exception()
            conversation.broken = isinstance(error, Exception) and isinstance(_unavailable(error), Unavailable)
            if not conversation.broken:
                conversation.attach()
            self._release(conversation)

        conversation = await self._acquire()
        connection = conversation.connection
        conversation.detach()
        running = asyncio.get_running_loop().run_in_executor(None, whole)
        running.add_done_callback(ended)
        try:
            return await asyncio.shield(running)
        except (InterfaceError, OSError, DatabaseError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Once the statements under way have ended; what comes later meets Unavailable."""
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
        conversation = await self._acquire()
        try:
            answer = conversation.execute(sql, params)
        except BaseException:
            self._release(conversation)
            raise
        try:
            return await answer
        except (InterfaceError, DatabaseError) as error:
            raise _unavailable(error) from error

    async def _acquire(self) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # the event loop that the old ones were watched by is gone
            self._abort_idle()
            self._loop, self._permits = loop, asyncio.Semaphore(self._connections)
        await self._permits.acquire()
        while self._idle:
            conversation = self._idle.pop()
            if not conversation.broken and not conversation.has_unsolicited_data():
                return conversation
            conversation.close()
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

    def _release(self, conversation: AsyncConnection) -> None:
        if conversation.broken:
            conversation.close()
            # what made an end of it may have made one of those that lie idle: each would cost somebody the wait
            self._abort_idle()
        else:
            self._idle.append(conversation)
        self._permits.release()

    def _abort_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _quit(connecting: asyncio.Future[Connection]) -> None:
    if connecting.exception() is None:
        connecting.result().quit()


def _unavailable(error: Exception) -> Exception:
    """Unavailable if it is the connection's or the server's state; else the error itself."""
    if isinstance(error, DatabaseError):
        if sqlstate(error) in TRANSIENT_STATES:
            return Unavailable(f"PostgreSQL is not available: {_reason(error)}")
    elif isinstance(error, (InterfaceError, OSError)):
        return Unavailable(f"the connection to PostgreSQL broke: {_reason(error)}")
    return error
