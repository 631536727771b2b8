"""Claims rows for a loop: a statement whose transaction commits only after its rows have been recorded elsewhere.

A worker may be lost at any moment. Before the record, the server rolls the transaction back, and the rows are free
again. After it, whoever continues reads in the record which transaction claimed the rows, and asks the server what
became of it. So no row is claimed without a record, and no record counts whose claim did not happen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pg8000 import native

from ..tables.table import Table
from .port import Credential
from .postgres_config import PostgresConfig
from .postgres_connection import Connection, Connections
from .postgres_limits import TooManyRows
from .postgres_work import Tables, Work
from .sql import SqlError, Statement

# a connection that takes longer is taken to be lost
_ROLLBACK_SECONDS = 5.0
# in_progress: nobody knows yet; unknown: so old that the server has forgotten it
TransactionStatus = Literal["committed", "aborted", "in progress", "unknown"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """`transaction`: the id that the server gave the claim, for `status_of`."""

    rows: list[dict[str, Any]] | Table
    transaction: int


class ClaimWork(Work):
    """`claim`, then `commit` or `roll_back`, each in a thread. The server ends the transaction by itself `seconds`
    after it began, so that a worker that stood still cannot commit when another may have its place."""

    _without = "leave it out of a claim"

    def __init__(
        self,
        config: PostgresConfig,
        input: Mapping[str, Any],
        credential: Credential,
        connections: Connections,
        seconds: float,
        tables: Tables | None = None,
    ) -> None:
        super().__init__(config, input, credential, connections, time.monotonic() + seconds, tables)
        self._open_connection: Connection | None = None

    def claim(self) -> Claimed:
        """Raises what `postgres_work.failure_of` turns into a failure."""
        queries = self._statements()
        connection = self._open()
        try:
            try:
                claimed = self._claim(connection, queries)
            except TooManyRows:
                # the LIMIT in `id IN (SELECT ... LIMIT 2 FOR UPDATE SKIP LOCKED)` counts anew for each row that a
                # nested loop joins it to, and whether there is one depends on the statistics of the table
                connection.execute_simple("ROLLBACK")
                self._begin(connection)
                connection.execute_simple("SET LOCAL enable_nestloop = off")
                claimed = self._claim(connection, queries)
        except BaseException:
            self._connection = None
            _end(connection)
            raise
        self._open_connection = connection
        return claimed

    def _claim(self, connection: Connection, queries: list[Statement]) -> Claimed:
        found = self._all_in(connection, queries)
        if not found["columns"]:
            raise SqlError("the claim gives no rows: end it with RETURNING; nothing was claimed")
        ((transaction,),) = connection.statement("SELECT txid_current()", [], 1).rows
        self._limit_idle_time(connection)
        return Claimed(found["rows"], int(transaction))

    def commit(self) -> None:
        connection, self._open_connection, self._connection = self._open_connection, None, None
        assert connection is not None
        try:
            connection.execute_simple("COMMIT")
        except BaseException:
            connection.drop()
            raise
        self._keep(connection)

    def roll_back(self) -> None:
        connection, self._open_connection, self._connection = self._open_connection, None, None
        if connection is not None:
            _end(connection)

    def _limit_idle_time(self, connection: Connection) -> None:
        assert self.deadline is not None
        remaining_ms = int((self.deadline - time.monotonic()) * 1000)
        if remaining_ms <= 0:
            raise TimeoutError
        connection.execute_simple(f"SET LOCAL idle_in_transaction_session_timeout = {remaining_ms}")


def _end(connection: Connection) -> None:
    """Roll back and close. Without the first the server would hold the rows until it notices the second, and the next
    claim, which passes over rows that others hold, could find nothing and end the loop."""
    with contextlib.suppress(native.Error, OSError):
        connection._usock.settimeout(_ROLLBACK_SECONDS)
        connection.execute_simple("ROLLBACK")
    connection.drop()


def status_of(connection: Connection, transaction: int) -> TransactionStatus:
    """What became of a claim's transaction."""
    (found,) = connection.statement("SELECT txid_status(CAST($1 AS bigint))", [transaction], 1).rows
    return "unknown" if found[0] is None else found[0]
