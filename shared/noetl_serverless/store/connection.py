"""PostgreSQL through pg8000: a few connections, each used by one thread at a time, awaited from the event loop.

Safe behind a transaction pooler: unnamed statements, no LISTEN, no session settings. One statement is one transaction
unless `transaction` is used.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pg8000.native
from pg8000.core import BIND, DESCRIBE, PARSE, SYNC_MSG, Context, make_params
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import to_statement

from ..errors import Unavailable

T = TypeVar("T")

EXECUTE_ALL = b"E" + (9).to_bytes(4, "big") + b"\x00" + bytes(4)
JSON_OIDS = (114, 3802)
TIMESTAMPTZ_OID = 1184
# the server is going, gone, starting or full: the same statement may succeed later
TRANSIENT_STATES = ("57P01", "57P02", "57P03", "53300", "53400", "08000", "08003", "08006")


class Connection(pg8000.native.Connection):
    """pg8000's connection with one round trip per bound statement (pg8000 makes three), and quicker readers of JSON and
    instants (a server in UTC writes them in ISO 8601; none of ours is infinite)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for oid in JSON_OIDS:
            self.register_in_adapter(oid, orjson.loads)
        self.register_in_adapter(TIMESTAMPTZ_OID, datetime.fromisoformat)

    def run(self, sql: str, stream: Any = None, types: Any = None, **params: Any) -> Any:
        if stream is not None or types is not None or not params:
            return super().run(sql, stream=stream, types=types, **params)
        statement, make_vals = _statement(sql)
        self._context = self._execute_in_one_trip(statement, make_vals(params))
        return self._context.rows

    def _execute_in_one_trip(self, statement: str, values: Sequence[Any]) -> Context:
        context = Context(statement)
        encoding = self._client_encoding
        self._send_message(PARSE, b"\x00" + statement.encode(encoding) + b"\x00\x00\x00")
        bind = bytearray(b"\x00\x00\x00\x00" + len(values).to_bytes(2, "big"))
        for value in make_params(self.py_types, values):
            if value is None:
                bind += b"\xff\xff\xff\xff"
            else:
                encoded = value.encode(encoding)
                bind += len(encoded).to_bytes(4, "big") + encoded
        self._send_message(BIND, bytes(bind + b"\x00\x00"))
        self._send_message(DESCRIBE, b"P\x00")
        try:
            self._sock.write(EXECUTE_ALL + SYNC_MSG)
            self._sock.flush()
        except (OSError, AttributeError, ValueError) as error:
            raise InterfaceError("network error") from error
        self.handle_messages(context)
        return context


@lru_cache(maxsize=256)
def _statement(sql: str) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]:
    statement, make_vals = to_statement(sql)
    return statement, make_vals


def connect(url: str, timeout: float = 10.0) -> Connection:
    """A connection to `postgresql://user:password@host:port/database[?sslmode=disable|require|verify-full]`.

    `sslrootcert=FILE` beside `verify-full` names the authority to trust instead of the machine's.

    Raises Unavailable if the server does not take it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("the database URL must start with postgresql://")
    query = parse_qs(parts.query)
    mode, root = query.get("sslmode", ["disable"])[0], query.get("sslrootcert", [None])[0]
    try:
        connection = Connection(
            user=unquote(parts.username or "postgres"),
            password=unquote(parts.password) if parts.password else None,
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 5432,
            database=unquote(parts.path.lstrip("/")) or "postgres",
            ssl_context=_tls(mode, root),
            timeout=timeout,
            application_name="noetl",
        )
    except (InterfaceError, DatabaseError, OSError) as error:
        raise Unavailable(f"PostgreSQL at {parts.hostname}:{parts.port} does not answer: {_reason(error)}") from error
    connection._usock.settimeout(None)
    # a statement larger than the write buffer leaves in pieces, and the last must not wait for the first's answer
    connection._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _tls(mode: str, root: str | None = None) -> ssl.SSLContext | None:
    if mode in ("disable", "allow", "prefer"):
        return None
    context = ssl.create_default_context(cafile=root)
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return str(error.args[0].get("M", error))
    return str(error)


def sqlstate(error: BaseException) -> str | None:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return error.args[0].get("C")
    return None


class Database:
    """A bounded set of connections. Every method raises Unavailable while PostgreSQL is away."""

    def __init__(self, url: str | Callable[[], str], connections: int = 4) -> None:
        """`url`, or what gives it, in a thread, for each new connection: credentials may be short-lived."""
        self._url = url
        self._threads = ThreadPoolExecutor(max_workers=connections, thread_name_prefix="postgres")
        self._local = threading.local()
        self._opened: list[Connection] = []
        self._lock = threading.Lock()

    async def run(self, sql: str, **params: Any) -> list[Any]:
        """Rows as lists; parameters are bound as `:name`."""
        return await self._in_thread(lambda connection: connection.run(sql, **params) or [])

    async def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows as dicts by column name."""

        def work(connection: Connection) -> list[dict[str, Any]]:
            found = connection.run(sql, **params) or []
            names = [column["name"] for column in connection.columns or []]
            return [dict(zip(names, row, strict=True)) for row in found]

        return await self._in_thread(work)

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, rolled back if it raises."""

        def whole(connection: Connection) -> T:
            connection.run("BEGIN")
            try:
                result = work(connection)
            except BaseException:
                connection.run("ROLLBACK")
                raise
            connection.run("COMMIT")
            return result

        return await self._in_thread(whole)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for connection in self._opened:
            _close(connection)

    async def _in_thread(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._attempt, work)

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        connection = self._connection()
        try:
            return work(connection)
        except (InterfaceError, OSError) as error:
            self._discard(connection)
            raise Unavailable(f"the connection to PostgreSQL broke: {_reason(error)}") from error
        except DatabaseError as error:
            if sqlstate(error) in TRANSIENT_STATES:
                self._discard(connection)
                raise Unavailable(f"PostgreSQL is not available: {_reason(error)}") from error
            raise

    def _connection(self) -> Connection:
        connection = getattr(self._local, "connection", None)
        if connection is not None and _is_gone(connection):
            self._discard(connection)
            connection = None
        if connection is None:
            url = self._url if isinstance(self._url, str) else self._url()
            connection = self._local.connection = connect(url)
            with self._lock:
                self._opened.append(connection)
        return connection

    def _discard(self, connection: Connection) -> None:
        self._local.connection = None
        with self._lock:
            if connection in self._opened:
                self._opened.remove(connection)
        _close(connection)


def _is_gone(connection: Connection) -> bool:
    """Whether the server has spoken unasked, as it does when it closes what lay idle: a function may have stood still
    for minutes, and nothing of a statement is lost that is not sent."""
    poll = select.poll()
    poll.register(connection._usock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except (InterfaceError, OSError, ValueError, AttributeError):
        return  # already gone
