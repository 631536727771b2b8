"""How many connections the tasks of one worker process use at once, for tasks that limit it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from ..playbook.numbers import no_boolean, seconds
from .port import ToolFailure


class PostgresPool(BaseModel):
    """`size` counts the tasks of this worker process that use the same credential, or that give the same `name`; others
    are not limited by it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    size: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("size", "max_size"),
        description=(
            "The task waits while so many connections of its credential are in use. Also spelled max_size. By default "
            "it waits for none."
        ),
    )
    timeout: Annotated[float | str, BeforeValidator(no_boolean)] = Field(
        default=30.0, description="Seconds to wait for one, or a text such as 30s."
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Tasks that give the same name are counted together, and no others. By default: by credential.",
    )
    max_waiting: int | None = Field(
        default=None,
        ge=0,
        description="The task fails with postgres.pool if so many wait already, instead of waiting, too.",
    )
    min_size: int = Field(
        default=0,
        ge=0,
        le=100,
        description="So many connections of the credential are kept open for a minute after their use, at least 4.",
    )


class PoolLimits:
    """Connections in use by credential, counted for all tasks."""

    def __init__(self) -> None:
        self._in_use: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._freed: dict[str, asyncio.Condition] = {}

    @asynccontextmanager
    async def use(self, credential: str, pool: PostgresPool | None) -> AsyncIterator[None]:
        """Raises ToolFailure `postgres.pool` if none is free in time, or too many wait."""
        # no credential has a name with a slash before it
        key = credential if pool is None or pool.name is None else f"/{pool.name}"
        freed = self._freed.setdefault(key, asyncio.Condition())
        if pool is not None:
            limit = _limit(pool)
            if pool.size is not None:
                await self._wait(key, pool, pool.size, limit, freed)
        self._in_use[key] = self._in_use.get(key, 0) + 1
        try:
            yield
        finally:
            self._in_use[key] -= 1
            async with freed:
                freed.notify_all()

    async def _wait(self, key: str, pool: PostgresPool, size: int, limit: float, freed: asyncio.Condition) -> None:
        waiting = self._waiting.get(key, 0)
        is_free = self._in_use.get(key, 0) < size
        if not is_free and pool.max_waiting is not None and waiting >= pool.max_waiting:
            message = f"all {size} connections of '{key}' are in use, and {waiting} tasks wait for one"
            raise ToolFailure("postgres", "postgres.pool", message, retryable=True)
        self._waiting[key] = waiting + 1
        try:
            async with asyncio.timeout(limit), freed:
                await freed.wait_for(lambda: self._in_use.get(key, 0) < size)
        except TimeoutError:
            message = f"no connection of '{key}' was free within {limit:g} s: {size} are in use"
            raise ToolFailure("postgres", "postgres.pool", message, retryable=True) from None
        finally:
            self._waiting[key] -= 1


def _limit(pool: PostgresPool) -> float:
    try:
        return seconds(pool.timeout)
    except ValueError as error:
        raise ToolFailure("postgres", "postgres.config", f"postgres: pool.timeout: {error}") from None
