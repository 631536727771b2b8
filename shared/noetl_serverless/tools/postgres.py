"""kind: postgres. SQL with bound parameters, in one transaction, and fast loading of rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import Problem
from ..postgres_target import FIELDS
from .port import Credential, ToolCall, ToolContext, ToolFailure, ToolOutcome, credential_named
from .postgres_config import PostgresConfig
from .postgres_pool import PoolLimits

if TYPE_CHECKING:
    from ..tables.table import Table
    from .postgres_work import Tables

# called with rows and the id of the transaction that claimed them
Record = Callable[["list[dict[str, Any]] | Table", int], Awaitable[None]]


class Postgres:
    config: ClassVar[type[PostgresConfig]] = PostgresConfig
    takes_tables: ClassVar[bool] = True
    credentials: ClassVar[Mapping[str, frozenset[str]]] = {"postgres": FIELDS, "postgresql": FIELDS}

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32, "postgres")
        self._connections: Any = None
        self._limits = PoolLimits()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        from .postgres_work import Work, failure_of

        credential = Credential("", "", {})
        try:
            config = PostgresConfig.of(call)
            credential = await self._credential(config, context)
            async with self._limits.use(credential.name, config.pool):
                deadline = _deadline(call.timeout)
                work = Work(config, call.input, credential, self._cache(), deadline, _tables(context))
                outcome: ToolOutcome = await self._thread(work, work.run)
                return outcome
        except ToolFailure as failure:
            return _masked(failure, credential)
        except Exception as error:
            return _masked(failure_of(error), credential)

    async def claim(self, call: ToolCall, context: ToolContext, record: Record, seconds: float) -> ToolOutcome:
        """Run the statements of `call` in a transaction that commits after `record`, which is called if there are rows;
        the server ends it after `seconds`. Data: {"rows"}. Passes on a Problem that `record` raises."""
        from .postgres_claim import ClaimWork
        from .postgres_work import failure_of

        credential = Credential("", "", {})
        try:
            config = PostgresConfig.of(call)
            credential = await self._credential(config, context)
            work = ClaimWork(config, call.input, credential, self._cache(), seconds, _tables(context))
            try:
                claimed = await self._thread(work, work.claim)
                if claimed.rows:
                    await record(claimed.rows, claimed.transaction)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(work.roll_back))
                raise
            await _to_its_end(self._thread(work, work.commit))
            return ToolOutcome("ok", data={"rows": claimed.rows})
        except ToolFailure as failure:
            return _masked(failure, credential)
        except Problem:
            raise
        except Exception as error:
            return _masked(failure_of(error), credential)

    async def claim_status(self, auth: str, context: ToolContext, transaction: int) -> str:
        """What became of the transaction of a claim: see `postgres_claim.TransactionStatus`. Raises ToolFailure."""
        from .postgres_claim import status_of
        from .postgres_work import failure_of

        call = ToolCall("postgres", "claim", {"auth": auth, "command": "SELECT"})
        credential = await self._credential(PostgresConfig.of(call), context)
        connections = self._cache()

        def ask() -> str:
            connection, _ = connections.take(credential)
            try:
                return status_of(connection, transaction)
            finally:
                # not kept: it may be one that has just been found dead
                connection.drop()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except Exception as error:
            failure = failure_of(error)
            failure.error["message"] = credential.mask(failure.error["message"])
            raise failure from None

    async def _credential(self, config: PostgresConfig, context: ToolContext) -> Credential:
        credential = await credential_named(context, "postgres", config.auth)
        if credential.type not in self.credentials:
            message = f"postgres: credential {credential.name!r} is of type {credential.type!r}, not postgres"
            raise ToolFailure("credential", "credential.unfit", message)
        return credential

    async def close(self) -> None:
        if self._connections is not None:
            await asyncio.to_thread(self._connections.close)

    def _cache(self) -> Any:
        if self._connections is None:
            from .postgres_connection import Connections

            self._connections = Connections()
        return self._connections

    async def _thread(self, work: Any, action: Callable[[], Any]) -> Any:
        """Run the `action` of `work` in a thread; when cancelled or overdue, stop the statement on the server and wait
        for the thread to notice."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, action)
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # the server itself enforces the timeout; this is for one that does not answer
        timeout = None if work.deadline is None else max(0.0, work.deadline - time.monotonic()) + 0.5
        try:
            return await asyncio.wait_for(asyncio.shield(running), timeout)
        except (TimeoutError, asyncio.CancelledError) as error:
            if running.done():
                raise
            await asyncio.shield(asyncio.to_thread(work.stop))
            await asyncio.wait((running,), timeout=2.0)
            work.abandon()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ToolFailure(
                "postgres", "postgres.timeout", "the server did not answer in time", retryable=True
            ) from None


async def _to_its_end(work: Coroutine[Any, Any, Any]) -> None:
    """Also when cancelled meanwhile."""
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


@cache
def _has_arrow() -> bool:
    """Workers of a pool without the extra `tools` have none."""
    return find_spec("pyarrow") is not None


def _tables(context: ToolContext) -> Tables | None:
    from .postgres_work import Tables

    return Tables(context.files, context.inline_bytes) if _has_arrow() else None


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _masked(failure: ToolFailure, credential: Credential) -> ToolOutcome:
    extra = {"pg": failure.error.pop("pg")} if "pg" in failure.error else {}
    failure.error["message"] = credential.mask(failure.error["message"])
    return failure.outcome(extra=extra)
