"""kind: postgres. SQL with bound parameters, in one transaction, and fast loading of rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from ..postgres_target import FIELDS
from .port import Credential, ToolCall, ToolContext, ToolFailure, ToolOutcome, credential_named
from .postgres_config import PostgresConfig
from .postgres_pool import PoolLimits


class Postgres:
    config: ClassVar[type[PostgresConfig]] = PostgresConfig
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
            credential = await credential_named(context, "postgres", config.auth)
            if credential.type not in self.credentials:
                message = f"postgres: credential {credential.name!r} is of type {credential.type!r}, not postgres"
                raise ToolFailure("credential", "credential.unfit", message)
            async with self._limits.use(credential.name, config.pool):
                work = Work(config, call.input, credential, self._cache(), _deadline(call.timeout))
                return await self._thread(work)
        except ToolFailure as failure:
            return _masked(failure, credential)
        except Exception as error:
            return _masked(failure_of(error), credential)

    async def close(self) -> None:
        if self._connections is not None:
            await asyncio.to_thread(self._connections.close)

    def _cache(self) -> Any:
        if self._connections is None:
            from .postgres_connection import Connections

            self._connections = Connections()
        return self._connections

    async def _thread(self, work: Any) -> ToolOutcome:
        """Run in a thread; when cancelled or overdue, stop the statement on the server and wait for the thread
        to notice."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # the server itself enforces the timeout; this is for one that does not answer
        timeout = None if work.deadline is None else max(0.0, work.deadline - time.monotonic()) + 0.5
        try:
            outcome: ToolOutcome = await asyncio.wait_for(asyncio.shield(running), timeout)
            return outcome
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


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _masked(failure: ToolFailure, credential: Credential) -> ToolOutcome:
    extra = {"pg": failure.error.pop("pg")} if "pg" in failure.error else {}
    failure.error["message"] = credential.mask(failure.error["message"])
    return failure.outcome(extra=extra)
