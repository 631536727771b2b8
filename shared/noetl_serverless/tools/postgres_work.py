"""One postgres task, to be run in a thread."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pg8000 import native

from ..playbook.template import BoundSql
from ..tables.collect import collect
from ..tables.listed import listed
from ..tables.sealed import NewFiles
from ..tables.table import Table
from .port import Credential, ToolFailure, ToolOutcome
from .postgres_config import PostgresConfig
from .postgres_connection import Connection, Connections
from .postgres_copy import columns_of, copy_text, quoted
from .postgres_limits import Limits, TooManyRows
from .sql import SqlError, Statement, name_needed, numbered, statements, unique

_TRANSIENT = ("080", "57P0")
_TRANSIENT_CODES = ("40001", "40P01", "53300")
_CANCELLED = "57014"
_SYNTAX = "42601"
_LOST = "08006"
# statements that would interfere with the transaction that the task runs in
_CONTROL = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE"})
# statements that take no parameters, and what does
_WITHOUT_PARAMETERS = {
    "SET": "SELECT set_config('name', {{ ... }}, true)",
    "NOTIFY": "SELECT pg_notify('channel', {{ ... }})",
}
# a task has no stream that COPY could read or write
_STREAM = re.compile(r"\b(?:FROM|TO)\s+(?P<end>STDIN|STDOUT)\b", re.IGNORECASE)
_WITHOUT_STREAM = {
    "STDIN": "give the rows in 'rows', and 'table' instead of the SQL",
    "STDOUT": "write SELECT, whose rows are the result",
}
_COPY_PLACE = re.compile(r'^COPY .+?, line \d+(?:, column .+?(?=: "|: null input|$))?', re.MULTILINE)
_SETTINGS = "SET {local} TimeZone = 'UTC'; SET {local} DateStyle = 'ISO'; SET {local} IntervalStyle = 'iso_8601'"


@dataclass(frozen=True, slots=True)
class Tables:
    """See `ToolContext`."""

    files: NewFiles
    inline_bytes: int


class Work:
    """`run` in a thread; `stop` and `abandon` from another. `deadline` on the monotonic clock."""

    # advice for a statement that would end the transaction
    _without = "set 'transaction: false' to disable that"

    def __init__(
        self,
        config: PostgresConfig,
        input: Mapping[str, Any],
        credential: Credential,
        connections: Connections,
        deadline: float | None,
        tables: Tables | None = None,
    ) -> None:
        """`tables`: how many rows become one; None: they are a list."""
        self._tables = tables
        self._config = config
        self._limits = config.list_limits
        self._params = {**input, **config.params}
        self._credential = credential
        self._connections = connections
        self.deadline = deadline
        self._connection: Connection | None = None
        self._stopped = False

    def run(self) -> ToolOutcome:
        queries = self._statements()
        connection = self._open()
        try:
            data = self._all(connection, queries)
        except BaseException:
            # a connection that saw an error is not worth cleaning
            connection.drop()
            raise
        finally:
            self._connection = None
        self._keep(connection)
        return ToolOutcome("ok", data=data)

    def _keep(self, connection: Connection) -> None:
        """Reset the session and keep the connection. The task has succeeded already, even if this fails."""
        try:
            connection.execute_simple("DISCARD ALL")
        except (native.Error, OSError):
            connection.drop()
        else:
            keep = self._config.pool.min_size if self._config.pool is not None else 0
            self._connections.give_back(self._credential, connection, keep)

    def stop(self) -> None:
        self._stopped = True
        connection = self._connection
        if connection is not None:
            connection.cancel()

    def abandon(self) -> None:
        """Break the connection, so that the thread cannot wait on it any longer."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError, AttributeError):
                connection._usock.shutdown(socket.SHUT_RDWR)

    def _statements(self) -> list[Statement]:
        found = []
        for text in self._config.texts:
            if isinstance(text, BoundSql):
                found += statements(text.text, {**self._params, **listed(text.values)}, numbered)
            else:
                found += statements(text, self._params, numbered)
        if not found and self._config.rows is None:
            raise SqlError("there is no statement")
        for statement in found:
            if statement.verb == "COPY" and (stream := _STREAM.search(statement.text)):
                raise SqlError(f"{' '.join(stream.group().upper().split())}: {_WITHOUT_STREAM[stream['end'].upper()]}")
            if statement.values and (instead := _WITHOUT_PARAMETERS.get(statement.verb)):
                raise SqlError(f"no value can be bound in {statement.verb}: write {instead}")
        if self._config.transaction:
            for statement in found:
                if statement.verb in _CONTROL and not _is_savepoint(statement):
                    raise SqlError(f"{statement.verb}: the statements already run in one transaction; {self._without}")
        return found

    def _open(self) -> Connection:
        """A connection on which `_begin` has run; a kept one that turns out to be dead is replaced."""
        connection, is_reused = self._connections.take(self._credential)
        self._connection = connection
        try:
            self._begin(connection)
        except (native.InterfaceError, OSError):
            connection.drop()
            if not is_reused:
                raise
            self._connections.close()
            connection, _ = self._connections.take(self._credential)
            self._connection = connection
            self._begin(connection)
        if self._stopped:
            connection.drop()
            raise TimeoutError
        connection.max_bytes = self._limits.max_bytes or connection.max_bytes
        return connection

    def _begin(self, connection: Connection) -> None:
        local = "LOCAL" if self._config.transaction else ""
        begin = "BEGIN; " if self._config.transaction else ""
        connection.execute_simple(begin + _SETTINGS.format(local=local))

    def _all(self, connection: Connection, queries: list[Statement]) -> dict[str, Any]:
        data = self._all_in(connection, queries)
        if self._config.transaction:
            connection.execute_simple("COMMIT")
        return {"status": "ok", **data, "statement_count": len(queries) + (self._config.rows is not None)}

    def _all_in(self, connection: Connection, queries: list[Statement]) -> dict[str, Any]:
        """Run the statements in the open transaction, if there is one; the result of the last."""
        last, each, read_bytes = dict[str, Any](), dict[str, Any](), 0
        assert self._limits.max_rows is not None
        assert self._limits.max_bytes is not None
        for number, statement in enumerate(queries):
            self._limit_time(connection)
            values = listed(list(statement.values.values()))
            is_last = number == len(queries) - 1
            if is_last and self._tables is not None and not self._config.each_statement and self._config.rows is None:
                return self._last(connection, statement.text, values, self._tables, len(queries))
            context = connection.statement(statement.text, values, self._limits.max_rows)
            if self._config.each_statement or is_last:
                last = _result(context)
            if self._config.each_statement:
                each[f"command_{number}"] = last
                read_bytes += context.read_bytes
                if read_bytes > self._limits.max_bytes:
                    raise TooManyRows(f"the rows of all statements take more than {self._limits.max_bytes} bytes")
        if self._config.rows is not None:
            return {**self._load(connection, self._config.rows), **each}
        return {**last, **each}

    def _last(
        self, connection: Connection, text: str, values: list[Any], tables: Tables, statements: int
    ) -> dict[str, Any]:
        """Run the last statement, whose rows may be many."""
        limits = Limits(self._config.max_rows, self._config.max_bytes)
        context, is_all = connection.begin(text, values, limits, tables.inline_bytes)
        if is_all:
            return _result(context)
        if not context.columns:
            raise SqlError("the rows have no columns: name at least one, or count them")
        # only now, since it takes a tenth of a second to import
        from .postgres_arrow import batches_of

        names = unique([column["name"] for column in context.columns])
        schema, batches = batches_of(connection, context, names, limits)
        rest = {"status": "ok", "rows": None, "row_count": 0, "columns": names, "statement_count": statements}
        return collect(
            schema,
            batches,
            tables.files,
            inline_bytes=tables.inline_bytes,
            field="rows",
            rest=lambda count: {**rest, "row_count": count},
        )

    def _limit_time(self, connection: Connection) -> None:
        """Let the server cancel statements that take longer than the time left."""
        if self.deadline is not None:
            remaining_ms = int((self.deadline - time.monotonic()) * 1000)
            if remaining_ms <= 0:
                raise TimeoutError
            local = "LOCAL" if self._config.transaction else ""
            connection.execute_simple(f"SET {local} statement_timeout = {remaining_ms}")

    def _load(self, connection: Connection, rows: list[dict[str, Any]] | Table) -> dict[str, Any]:
        assert self._config.table is not None
        table = quoted(self._config.table)
        columns = self._config.columns or (rows.schema.names if isinstance(rows, Table) else columns_of(rows))
        self._check_columns(rows)
        self._limit_time(connection)
        if self._config.mode == "replace":
            connection.execute_simple(f"TRUNCATE {table}")
        loaded = 0
        if rows:
            names = ", ".join(quoted_column(name) for name in columns)
            shape = connection.statement(f"SELECT {names} FROM {table} LIMIT 0", [], 1)  # noqa: S608
            types = [column["type_oid"] for column in shape.columns]
            arrays = [connection.is_array(type_) for type_ in types]
            copy = f"COPY {table} ({names}) FROM STDIN"
            if isinstance(rows, Table):
                from .postgres_copy_table import copy_csv

                loaded = connection.copy(f"{copy} (FORMAT csv)", copy_csv(rows, columns, types, arrays))
            else:
                loaded = connection.copy(copy, copy_text(rows, columns, types, arrays))
        return {"rows": [], "row_count": loaded, "columns": columns}

    def _check_columns(self, rows: list[dict[str, Any]] | Table) -> None:
        """That each of the columns is somewhere in the rows: a misspelt one would be null in all. Raises SqlError."""
        wanted = self._config.columns
        is_table = isinstance(rows, Table)
        if wanted is None or not (is_table or rows):
            return
        known = rows.schema.names if isinstance(rows, Table) else columns_of(rows)
        missing = next((name for name in wanted if name not in known), None)
        if missing is not None:
            from ..playbook.faults import did_you_mean

            what = "the table has no column" if is_table else "no row has the key"
            raise SqlError(f"'columns': {what} {missing!r:.200}{did_you_mean(missing, known)}")


def quoted_column(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_savepoint(statement: Statement) -> bool:
    """ROLLBACK TO: back to a savepoint, within the transaction."""
    match statement.words:
        case ["ROLLBACK", "TO", *_] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", *_]:
            return True
        case _:
            return False


def _result(context: Any) -> dict[str, Any]:
    columns = unique([column["name"] for column in context.columns or ()])
    rows = [dict(zip(columns, row, strict=True)) for row in context.rows or ()]
    count = len(rows) if context.columns else max(context.row_count, 0)
    return {"rows": rows, "row_count": count, "columns": columns}


def failure_of(error: Exception) -> ToolFailure:
    """The failure for any exception that a task raised."""
    match error:
        case native.DatabaseError() if error.args and isinstance(error.args[0], dict):
            return _refused(error.args[0])
        case ssl.SSLError():
            # without a reason where OpenSSL was not asked, as for an sslrootcert that is no certificate
            reason = getattr(error, "reason", None) or error.args[-1]
            return ToolFailure("postgres", "postgres.tls", f"the TLS connection failed: {reason}")
        case ValueError():
            return ToolFailure("postgres", "postgres.sql", str(error))
        case TooManyRows():
            message = f"{error}; nothing was changed. Narrow the query, or raise max_rows or max_bytes"
            return ToolFailure("postgres", "postgres.too_many_rows", message)
        case TimeoutError():
            return ToolFailure("postgres", "postgres.timeout", "the task timed out", retryable=True)
        case native.InterfaceError() | OSError():
            return ToolFailure(
                "postgres", "postgres.connection", f"the connection failed: {error}", retryable=True, pg=_codes(_LOST)
            )
        case _:
            return ToolFailure("postgres", "postgres.internal", f"{type(error).__name__}: {error}")


def _refused(fields: Mapping[str, str]) -> ToolFailure:
    state = fields.get("C", "")
    parts = [fields.get("M", "the server refused"), _place_in_copy(fields), fields.get("D"), fields.get("H")]
    message = ". ".join(part.rstrip(".") for part in parts if part)
    code, retryable = "postgres.error", state.startswith(_TRANSIENT) or state in _TRANSIENT_CODES
    if state == _SYNTAX:
        message += name_needed(message)
    if state == _CANCELLED:
        code, retryable = "postgres.timeout", True
    elif state.startswith("28"):
        code = "postgres.sign_in"
    return ToolFailure("postgres", code, f"{message} ({state})", retryable=retryable, pg=_codes(state))


def _place_in_copy(fields: Mapping[str, str]) -> str | None:
    """Which line and column of the rows that are loaded, which only the context says. Not the value that follows: it is
    cut, and what is left of a secret would not be recognized."""
    found = _COPY_PLACE.search(fields.get("W", ""))
    return found.group() if found is not None else None


def _codes(state: str) -> dict[str, str]:
    return {"code": state, "sqlstate": state}
