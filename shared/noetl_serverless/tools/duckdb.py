"""kind: duckdb. Analytical SQL in this process, over the task's input and its own files."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from .duckdb_config import DuckDBConfig
from .duckdb_folders import Folders
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome


class DuckDB:
    config: ClassVar[type[DuckDBConfig]] = DuckDBConfig
    takes_tables: ClassVar[bool] = True

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(8, "duckdb")
        self._folders: dict[Path, Folders] = {}

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        try:
            config = DuckDBConfig.of(call)
            from .duckdb_work import Work

            folders = self._folders.setdefault(context.scratch, Folders(context.scratch))
            folder = folders.in_use(context.execution_id)
            work = Work(config, call.input, folder, context.files, context.inline_bytes)
            return await self._thread(work, call.timeout)
        except ToolFailure as failure:
            return failure.outcome()

    async def close(self) -> None:
        while self._folders:
            _, folders = self._folders.popitem()
            await asyncio.to_thread(folders.remove)

    async def _thread(self, work: Any, timeout: float | None) -> ToolOutcome:
        running = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            outcome: ToolOutcome = await asyncio.wait_for(asyncio.shield(running), timeout)
            return outcome
        except (TimeoutError, asyncio.CancelledError) as error:
            while not running.done():
                # once is not enough: an interrupt between two statements is lost
                work.interrupt()
                await asyncio.wait((running,), timeout=0.05)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ToolFailure(
                "duckdb", "duckdb.timeout", f"ran longer than {timeout:g} s and was interrupted", retryable=True
            ) from None
