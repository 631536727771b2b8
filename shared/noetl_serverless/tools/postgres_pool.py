"""How many connections the tasks of one worker process use at once, for tasks that limit it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from ..playbook.numbers import seconds
from .port import ToolFailure


class PostgresPool(BaseModel):
    """`size` counts the tasks of this worker process that use the same credential; others are not limited by it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    size: int = Field(
        ge=1,
        le=1000,
        validation_alias=AliasChoices("size", "max_size"),
        description="The task waits while so many connections of its credential are in use. Also spelled max_size.",
    )
    timeout: float | str = Field(default=30.0, description="Seconds to wait for one, or a text such as 30s.")

    @property
    def wait_seconds(self) -> float:
        """Raises ValueError."""
        return seconds(self.timeout)


class PoolLimits:
    """Connections in use by credential, counted for all tasks."""

    def __init__(self) -> None:
        self._in_use: dict[str, int] = {}
        self._freed: dict[str, asyncio.Condition] = {}

    @asynccontextmanager
    async def use(self, credential: str, pool: PostgresPool | None) -> AsyncIterator[None]:
        """Raises ToolFailure `postgres.pool` if none is free in time."""
        freed = self._freed.setdefault(credential, asyncio.Condition())
        if pool is not None:
            await self._wait(credential, pool, freed)
        self._in_use[credential] = self._in_use.get(credential, 0) + 1
        try:
            yield
        finally:
            self._in_use[credential] -= 1
            async with freed:
                freed.notify_all()

    async def _wait(self, credential: str, pool: PostgresPool, freed: asyncio.Condition) -> None:
        try:
            limit = pool.wait_seconds
        except ValueError as error:
            raise ToolFailure("postgres", "postgres.config", f"postgres: pool.timeout: {error}") from None
        try:
            async with asyncio.timeout(limit), freed:
                await freed.wait_for(lambda: self._in_use.get(credential, 0) < pool.size)
        except TimeoutError:
            message = f"no connection of '{credential}' was free within {limit:g} s: {pool.size} are in use"
            raise ToolFailure("postgres", "postgres.pool", message, retryable=True) from None
