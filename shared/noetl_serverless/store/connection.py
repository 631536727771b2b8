"""A connection to PostgreSQL through pg8000."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
import pg8000.native
from pg8000.core import BIND, DESCRIBE, PARSE, QUERY, SYNC_MSG, Context, make_params
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import to_statement

from ..errors import Unavailable
from ..postgres_target import PostgresTarget
from .prepared import EXECUTE_ALL, Prepared, Value

DESCRIBE_PORTAL = DESCRIBE + (6).to_bytes(4, "big") + b"P\x00"
JSON_OIDS = (114, 3802)
TIMESTAMPTZ_OID = 1184
INVALID_STATEMENT_NAME = "26000"
DUPLICATE_PREPARED_STATEMENT = "42P05"
# the server is stopping, gone, starting or full: the same statement may succeed later
TRANSIENT_STATES = ("57P01", "57P02", "57P03", "53300", "53400", "08000", "08003", "08006")


class Connection(pg8000.native.Connection):
    """pg8000's connection with one round trip per bound statement (pg8000 makes three), and faster parsers of JSON and
    instants (a server in UTC writes them in ISO 8601; none of ours is infinite)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for oid in JSON_OIDS:
            self.register_in_adapter(oid, orjson.loads)
        self.register_in_adapter(TIMESTAMPTZ_OID, datetime.fromisoformat)
        self._prepared: set[str] = set()

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

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows as dicts by column name."""
        rows = self.run(sql, **params)
        return as_dicts(self.columns, rows)

    def request(self, sql: str, params: dict[str, Any]) -> tuple[bytes, Context]:
        """The bytes to send for a statement, and the context to read its answer into."""
        encoding = self._client_encoding
        if not params:
            return _message(QUERY, sql.encode(encoding) + b"\x00"), Context(sql)
        statement, make_vals = _statement(sql)
        values = make_params(self.py_types, make_vals(params))
        # in pieces that are joined once: a parameter may be large
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

    def call(self, statement: Prepared, values: Sequence[Value]) -> tuple[bytes, Context]:
        """As `request`, for a statement that is prepared if it has not been."""
        parse = statement.name not in self._prepared
        self._prepared.add(statement.name)
        return statement.request(values, parse=parse)

    def is_other_server(self, statement: Prepared, state: str | None) -> bool:
        """Whether the error says that a pooler gave this connection another server, on which the statement has been
        prepared, or has not. It was not run, and can be called again."""
        if state == INVALID_STATEMENT_NAME:
            self._prepared.discard(statement.name)
        elif state == DUPLICATE_PREPARED_STATEMENT:
            self._prepared.add(statement.name)
        else:
            return False
        return True

    def is_lost_after(self, error: BaseException | None) -> bool:
        """Whether the connection must not be used again after this error."""
        return error is not None and sqlstate(error) in TRANSIENT_STATES

    def abort(self) -> None:
        """Close without a Terminate message, which would stay in the buffer and be retried if it could not be sent."""
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

    Raises Unavailable if the server does not accept it, ValueError for any other form of URL.
    """
    target = PostgresTarget.from_url(url)
    target = replace(target, user=target.user or "postgres", database=target.database or "postgres")
    try:
        connection = Connection(**target.arguments(), timeout=timeout, application_name="noetl")
    except (InterfaceError, DatabaseError, OSError) as error:
        raise Unavailable(f"PostgreSQL at {target.host}:{target.port} does not answer: {reason_of(error)}") from error
    connection._usock.settimeout(None)
    if connection._usock.family != socket.AF_UNIX:
        # a statement larger than the write buffer is sent in pieces: the last must not wait for the ACK of the first
        connection._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def as_dicts(columns: Sequence[Mapping[str, Any]] | None, rows: Sequence[Sequence[Any]] | None) -> list[dict[str, Any]]:
    """Rows by column name; None for either where a statement returns nothing."""
    names = [column["name"] for column in columns or ()]
    return [dict(zip(names, row, strict=True)) for row in rows or ()]


def reason_of(error: BaseException) -> str:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return str(error.args[0].get("M", error))
    return str(error)


def sqlstate(error: BaseException) -> str | None:
    if isinstance(error, DatabaseError) and error.args and isinstance(error.args[0], dict):
        return error.args[0].get("C")
    return None
