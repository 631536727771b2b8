"""Connections to PostgreSQL for tasks, kept between calls: rows as JSON, parameters typed by their place."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson
from pg8000 import converters, core, native

from ..postgres_target import PostgresTarget
from ..tables.values import plain_decimal, plain_value
from .encoding import encode
from .port import Credential
from .postgres_array import array_text
from .postgres_limits import Limits
from .postgres_rows import RowReader

CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_IDLE_CONNECTIONS = 4
_MAX_IDLE_SECONDS = 60.0
_JSON = frozenset({converters.JSON, converters.JSONB})
_ARRAYS = frozenset(value for name, value in vars(converters).items() if name.endswith("_ARRAY"))
_RANGES = frozenset(value for name, value in vars(converters).items() if name.endswith("RANGE"))
# user-defined types have OIDs from here on
_FIRST_USER_OID = 16384


class Connection(native.Connection):
    """A pg8000 connection whose values are JSON."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.pg_types.update(_READERS)
        self._array_types: dict[int, bool] = {}
        self.max_bytes = 1 << 40

    def statement(self, text: str, values: Sequence[Any], max_rows: int) -> core.Context:
        """Run one statement; TooManyRows beyond `max_rows` or `max_bytes`, pg8000's errors otherwise."""
        context = self._sent(text, values, max_rows)
        self.handle_messages(context)
        Limits(max_rows, self.max_bytes).check(len(context.rows or ()), context.read_bytes)
        return context

    def begin(self, text: str, values: Sequence[Any], limits: Limits, enough: int) -> tuple[core.Context, bool]:
        """Run one statement until its rows may take more than `enough` bytes as JSON. False: `remaining` has the rows,
        and nothing else may be sent before they are read. True: the context has them all. With 0 it is False
        for all that has columns, also without rows. Raises as `statement`."""
        context = self._sent(text, values, limits.max_rows)
        context.kept = kept = list[bytes]()
        names = sum(len(column["name"].encode()) + len('"":') for column in context.columns or ())
        enough = -1 if enough == 0 and context.columns else enough
        code = None
        while code != core.READY_FOR_QUERY:
            code, length = core.ci_unpack(core._read(self._sock, 5))
            self.message_types[code](core._read(self._sock, length - 4), context)
            if context.read_bytes + len(kept) * names > enough:
                return context, False
        if context.error is not None:
            raise context.error
        limits.check(len(kept), context.read_bytes)
        context.kept = None
        for row in kept:
            super().handle_DATA_ROW(row, context)
        return context, True

    def remaining(self, context: core.Context, limits: Limits) -> RowReader:
        """All rows of a statement that `begin` has not read to its end."""
        kept, context.kept = context.kept, None
        return RowReader(self._sock, self.message_types, context, kept, limits)

    @property
    def encoding(self) -> str:
        """Of the texts that the server sends."""
        return str(self._client_encoding)

    def copy(self, text: str, chunks: Iterable[bytes]) -> int:
        """Run a COPY FROM STDIN; returns the number of rows."""
        return int(self.execute_unnamed(text, stream=chunks).row_count)

    def cancel(self) -> None:
        """Ask the server, over a separate connection, to cancel what this one runs. May be called from any thread."""
        request = struct.pack("!ii", 16, 80877102) + self._backend_key_data
        with contextlib.suppress(OSError, AttributeError, TypeError):
            address = self._usock.getpeername()
            with socket.socket(self._usock.family) as sock:
                sock.settimeout(2.0)
                sock.connect(address)
                sock.sendall(request)
                sock.recv(1)

    def drop(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def handle_PARAMETER_DESCRIPTION(self, data: bytes, context: core.Context) -> None:
        (count,) = struct.unpack_from("!h", data)
        context.parameter_types = struct.unpack_from(f"!{count}I", data, 2)

    def handle_DATA_ROW(self, data: bytes, context: core.Context) -> None:
        context.read_bytes = getattr(context, "read_bytes", 0) + len(data)
        if (kept := getattr(context, "kept", None)) is not None:
            kept.append(data)
        elif context.read_bytes <= self.max_bytes:
            super().handle_DATA_ROW(data, context)

    def _sent(self, text: str, values: Sequence[Any], max_rows: int | None) -> core.Context:
        """The context of a statement that the server runs from now on."""
        context = self._described(text, values)
        unknown = {
            type_
            for value, type_ in zip(values, context.parameter_types, strict=True)
            if isinstance(value, (list, tuple)) and type_ >= _FIRST_USER_OID and type_ not in self._array_types
        }
        if unknown:
            # the query for the types replaces the parsed statement, which has to be sent again
            self._learn(unknown)
            context = self._described(text, values)
        types = context.parameter_types
        self.send_BIND(core.NULL_BYTE, [self._written(v, t) for v, t in zip(values, types, strict=True)])
        # one row more than allowed shows that there are too many, without fetching them all
        limit = 0 if max_rows is None else max_rows + 1
        self._send_message(core.EXECUTE, core.NULL_BYTE + struct.pack("!i", limit))
        self._send_sync()
        return context

    def _send_sync(self) -> None:
        core._write(self._sock, core.SYNC_MSG)
        core._flush(self._sock)

    def _written(self, value: Any, type_: int) -> str | None:
        """A parameter in text form, for a place of this type."""
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (list, tuple)) and type_ not in _JSON and self.is_array(type_):
            return array_text(value)
        if isinstance(value, (dict, list, tuple)):
            return encode(value).decode()
        return str(converters.make_param(self.py_types, value))

    def is_array(self, type_: int) -> bool:
        if type_ >= _FIRST_USER_OID and type_ not in self._array_types:
            self._learn({type_})
        return type_ in _ARRAYS or self._array_types.get(type_, False)

    def _learn(self, types: set[int]) -> None:
        query = "SELECT typcategory = 'A' FROM pg_catalog.pg_type WHERE oid = $1"
        for type_ in types:
            self._array_types[type_] = bool(self.statement(query, [type_], 1).rows[0][0])

    def _described(self, text: str, values: Sequence[Any]) -> core.Context:
        """The parsed statement's context, with its columns and the types of its parameters."""
        context = core.Context(text)
        context.parameter_types = ()
        context.read_bytes = 0
        self.send_PARSE(core.NULL_BYTE, text, [_type_of(value) for value in values])
        self.send_DESCRIBE_STATEMENT(core.NULL_BYTE)
        self._send_sync()
        self.handle_messages(context)
        return context


def _type_of(value: Any) -> int:
    """The type to declare: a number has the type of the same literal; the type of text is left to its place."""
    oid: int = 0
    if isinstance(value, bool):
        oid = converters.BOOLEAN
    elif isinstance(value, int):
        small, fits = -(2**31) <= value < 2**31, -(2**63) <= value < 2**63
        oid = converters.INTEGER if small else converters.BIGINT if fits else converters.NUMERIC
    elif isinstance(value, float):
        oid = converters.NUMERIC if math.isfinite(value) else converters.FLOAT
    elif isinstance(value, Decimal):
        oid = converters.NUMERIC
    elif isinstance(value, dict):
        oid = converters.JSONB
    return oid


def _json_in(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return converters.json_in(text)


def _instant(text: str) -> str:
    """PostgreSQL's ISO style with the T and the whole offset."""
    date, space, time_ = text.partition(" ")
    if not space or " " in time_:
        return text
    if time_[-3:-2] in ("+", "-"):
        time_ += ":00"
    return f"{date}T{time_}"


def _array_of(reader: Any) -> Any:
    return lambda text: plain_value(reader(text))


def _float_in(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


_TEXTS = ("DATE", "TIME", "INTERVAL", "UUID_TYPE", "POINT")
_READERS: dict[int, Any] = {
    **{
        oid: (_array_of(reader) if oid in _ARRAYS else converters.string_in)
        for oid, reader in converters.PG_TYPES.items()
        if oid in _ARRAYS or oid in _RANGES
    },
    **{getattr(converters, name): converters.string_in for name in _TEXTS},
    converters.INET: converters.string_in,
    converters.TIMESTAMP: _instant,
    converters.TIMESTAMPTZ: _instant,
    converters.NUMERIC: lambda text: plain_decimal(Decimal(text)),
    converters.FLOAT: _float_in,
    converters.REAL: _float_in,
    converters.BYTES: lambda text: base64.b64encode(bytes.fromhex(text[2:])).decode(),
    converters.JSON: _json_in,
    converters.JSONB: _json_in,
}


class Connections:
    """Open connections by credential, each for one task at a time; unused ones are closed after a minute."""

    def __init__(self) -> None:
        self._idle: dict[str, list[tuple[float, Connection]]] = {}
        self._lock = threading.Lock()

    def take(self, credential: Credential) -> tuple[Connection, bool]:
        """A connection, and whether it was used before. OSError, ssl.SSLError or pg8000's errors."""
        key, now = _fingerprint(credential), time.monotonic()
        stale: list[Connection] = []
        reused = None
        with self._lock:
            for name, idle in list(self._idle.items()):
                stale += [connection for idle_since, connection in idle if now - idle_since > _MAX_IDLE_SECONDS]
                idle[:] = [entry for entry in idle if now - entry[0] <= _MAX_IDLE_SECONDS]
                if not idle:
                    del self._idle[name]
            if self._idle.get(key):
                reused = self._idle[key].pop()[1]
        for connection in stale:
            connection.drop()
        return (reused, True) if reused else (connect(credential.data), False)

    def give_back(self, credential: Credential, connection: Connection, keep: int = 0) -> None:
        """`keep`: how many unused ones of the credential may stay open, if more than by default."""
        with self._lock:
            idle = self._idle.setdefault(_fingerprint(credential), [])
            if len(idle) < max(keep, _MAX_IDLE_CONNECTIONS):
                idle.append((time.monotonic(), connection))
                return
        connection.drop()

    def close(self) -> None:
        with self._lock:
            connections = [connection for idle in self._idle.values() for _, connection in idle]
            self._idle.clear()
        for connection in connections:
            connection.drop()


def _fingerprint(credential: Credential) -> str:
    text = orjson.dumps([credential.name, dict(credential.data)], default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def connect(data: Mapping[str, Any]) -> Connection:
    """Connect as a credential's data says: see `PostgresTarget`."""
    arguments = PostgresTarget.from_mapping(data).arguments()
    connection = Connection(**arguments, timeout=CONNECT_TIMEOUT_SECONDS, application_name="noetl")
    # from here on the server's statement timeout and cancellation bound the time
    connection._usock.settimeout(None)
    return connection
