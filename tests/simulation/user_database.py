"""The PostgreSQL of users: tables of rows to claim, and transactions that commit, end otherwise, or are in doubt."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noetl_serverless.errors import Unavailable
from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome

from .loop import Loop, Process

if TYPE_CHECKING:
    from .world import World

Record = Callable[[list[dict[str, Any]], int], Any]
# how long the server may take to find out that a client is gone, in seconds
NOTICES = 3.0


@dataclass(slots=True)
class Transaction:
    number: int
    table: str
    rows: list[int]
    status: str = "in progress"


@dataclass(slots=True)
class Table:
    """`claims`: how often each row was claimed by a transaction that has committed; `keys`: those that a row was
    processed under; `passed_over`: rows that a claim which found nothing did not see, since others held them."""

    rows: int
    claims: Counter[int] = field(default_factory=Counter)
    keys: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    locked: set[int] = field(default_factory=set)
    passed_over: set[int] = field(default_factory=set)


class UserDatabase:
    """Each method is one statement."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.tables: dict[str, Table] = {}
        self._transactions: dict[int, Transaction] = {}

    def claim(self, table: str, rows: int, limit: int, deadline: float) -> Transaction:
        """Lock the first `limit` rows that are free, of a table of so many `rows`; at the deadline the server ends the
        transaction by itself."""
        of = self.tables.setdefault(table, Table(rows))
        free = [row for row in range(of.rows) if not of.claims[row] and row not in of.locked][:limit]
        if not free:
            of.passed_over |= of.locked
        transaction = Transaction(len(self._transactions) + 1, table, free)
        self._transactions[transaction.number] = transaction
        of.locked |= set(free)
        self._loop.later(max(0.0, deadline - self._loop.now), self.abort, transaction.number)
        return transaction

    def commit(self, number: int) -> bool:
        """Whether it has: not if the server has ended it before."""
        transaction = self._transactions[number]
        if transaction.status == "in progress":
            self._end(transaction, "committed")
        return transaction.status == "committed"

    def abort(self, number: int) -> None:
        transaction = self._transactions[number]
        if transaction.status == "in progress":
            self._end(transaction, "aborted")

    def process(self, table: str, row: int, key: str) -> bool:
        """Whether the row may be processed: its claim has committed."""
        of = self.tables[table]
        of.keys[row].add(key)
        return of.claims[row] > 0

    def status(self, number: int) -> str:
        return self._transactions[number].status

    def _end(self, transaction: Transaction, status: str) -> None:
        table = self.tables[transaction.table]
        transaction.status = status
        table.locked -= set(transaction.rows)
        if status == "committed":
            table.claims.update(transaction.rows)


class UserPostgres(Noop):
    """kind: postgres, of one worker. A claim reads `CLAIM <table> <how many rows it has>`."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def claim(self, call: ToolCall, context: ToolContext, record: Record, seconds: float) -> ToolOutcome:
        """As that of the tool: rows are recorded before the transaction commits."""
        table, rows = call.config["command"].values.values()
        limit, deadline = call.input["__frame_max_rows"], self._world.loop.now + seconds
        try:
            given = (str(table), int(rows), limit, deadline)
            transaction = await self._world.statement(self._process, self._begin, *given)
            number, found = transaction.number, [{"id": row} for row in transaction.rows]
            try:
                if found:
                    await record(found, number)
            except BaseException:
                self._lose(number)
                raise
            await _to_its_end(self._commit(number))
        except Unavailable as problem:
            return _away(problem).outcome()
        return ToolOutcome("ok", data={"rows": found})

    async def claim_status(self, auth: str, context: ToolContext, transaction: int) -> str:
        try:
            return await self._world.statement(self._process, self._status, transaction)
        except Unavailable as problem:
            raise _away(problem) from None

    async def _begin(self, table: str, rows: int, limit: int, deadline: float) -> Transaction:
        return self._world.users.claim(table, rows, limit, deadline)

    async def _status(self, transaction: int) -> str:
        return self._world.users.status(transaction)

    async def _commit(self, number: int) -> None:
        """It is under way for a while, and arrives whatever becomes of the worker."""
        try:
            done = await self._world.statement(self._process, self._send_commit, number)
        except Unavailable:
            self._lose(number)
            raise
        if not done:
            raise Unavailable("the server has ended the transaction")

    async def _send_commit(self, number: int) -> bool:
        loop, arrived = self._world.loop, asyncio.get_running_loop().create_future()
        seconds = self._world.chance.random() * (4 if self._world.faults.strike("wire_slow") else 0.01)

        def arrive() -> None:
            done = self._world.users.commit(number)
            if not arrived.done():
                arrived.set_result(done)

        loop.later(seconds, arrive)
        return bool(await arrived)

    def _lose(self, number: int) -> None:
        """The connection is gone, and the server finds out."""
        self._world.loop.later(self._world.chance.random() * NOTICES, self._world.users.abort, number)


def _away(problem: Unavailable) -> ToolFailure:
    return ToolFailure("postgres", "postgres.unavailable", problem.detail, retryable=True)


async def _to_its_end(work: Any) -> None:
    """Also when cancelled meanwhile."""
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise
