"""Claims rows for a loop: a statement whose transaction commits only after its rows have been recorded elsewhere.

A worker may be lost at any moment. Before the record, the server rolls the transaction back, and the rows are free
again. After it, whoever continues reads in the record which transaction claimed the rows, and asks the server what
became of it. So no row is claimed without a record, and no record counts whose claim did not happen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .port import Credential
from .postgres_config import PostgresConfig
from .postgres_connection import Connection, Connections, TooManyRows
from .postgres_work import Work
from .sql import SqlError, Statement

_WITHOUT_NESTED_LOOPS = "SET LOCAL enable_nestloop = off"
# in_progress: nobody knows yet; unknown: so old that the server has forgotten it
TransactionStatus = Literal["committed", "aborted", "in progress", "unknown"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """`transaction`: the id that the server gave the claim, for `status_of`."""

    rows: list[dict[str, Any]]
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
    ) -> None:
        super().__init__(config, input, credential, connections, time.monotonic() + seconds)
        self._open_connection: Connection | None = None

    def claim(self) -> Claimed:
        """Raises what `postgres_work.failure_of` turns into a failure."""
        queries = self._statements()
        try:
            return self._claim(queries)
        except TooManyRows:
            # the LIMIT in `id IN (SELECT ... LIMIT 2 FOR UPDATE SKIP LOCKED)` counts anew for each row that a nested
            # loop joins it to, and whether there is one depends on the statistics of the table. Nothing was claimed
            return self._claim(queries, _WITHOUT_NESTED_LOOPS)

    def _claim(self, queries: list[Statement], setting: str | None = None) -> Claimed:
        connection = self._open()
        try:
            if setting is not None:
                connection.execute_simple(setting)
            found_rows = self._all_in(connection, queries)
            if not found_rows["columns"]:
                raise SqlError("the claim gives no rows: end it with RETURNING; nothing was claimed")
            (found,) = connection.statement("SELECT txid_current()", [], 1).rows
            self._limit_idle_time(connection)
        except BaseException:
            self._connection = None
            connection.drop()
            raise
        self._open_connection = connection
        return Claimed(found_rows["rows"], int(found[0]))

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
        """By closing the connection, which is right whatever state it is in."""
        connection, self._open_connection, self._connection = self._open_connection, None, None
        if connection is not None:
            connection.drop()

    def _limit_idle_time(self, connection: Connection) -> None:
        assert self.deadline is not None
        remaining_ms = int((self.deadline - time.monotonic()) * 1000)
        if remaining_ms <= 0:
            raise TimeoutError
        connection.execute_simple(f"SET LOCAL idle_in_transaction_session_timeout = {remaining_ms}")


def status_of(connection: Connection, transaction: int) -> TransactionStatus:
    """What became of a claim's transaction."""
    (found,) = connection.statement("SELECT txid_status(CAST($1 AS bigint))", [transaction], 1).rows
    return "unknown" if found[0] is None else found[0]
