"""How many connections tasks use at once, where they limit it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from noetl_serverless.tools.port import Credential, ToolFailure
from noetl_serverless.tools.postgres_connection import Connection, Connections
from noetl_serverless.tools.postgres_pool import PoolLimits, PostgresPool


class Tasks:
    def __init__(self) -> None:
        self.limits = PoolLimits()
        self.running = self.most = 0
        self.go_on = asyncio.Event()

    async def run(self, credential: str, **pool: Any) -> None:
        async with self.limits.use(credential, PostgresPool(**pool) if pool else None):
            self.running += 1
            self.most = max(self.most, self.running)
            await self.go_on.wait()
            self.running -= 1

    async def all(self, *tasks: Any) -> list[Any]:
        started = [asyncio.create_task(task) for task in tasks]
        for _ in range(20):
            await asyncio.sleep(0)
        self.go_on.set()
        return await asyncio.gather(*started, return_exceptions=True)


async def test_tasks_of_one_credential_wait_for_each_other() -> None:
    tasks = Tasks()
    ended = await tasks.all(*(tasks.run("db", size=2) for _ in range(5)))
    assert (ended, tasks.most) == ([None] * 5, 2)


async def test_without_a_size_nobody_waits() -> None:
    tasks = Tasks()
    await tasks.all(*(tasks.run("db", timeout=1) for _ in range(5)))
    assert tasks.most == 5


async def test_tasks_with_a_name_are_counted_by_it() -> None:
    tasks = Tasks()
    await tasks.all(*(tasks.run(f"db{n}", size=2, name="few") for n in range(4)), tasks.run("db0"), tasks.run("db1"))
    assert tasks.most == 4, "two of the name, and two that are not of it"


async def test_a_task_that_may_not_wait_fails() -> None:
    tasks = Tasks()
    ended = await tasks.all(*(tasks.run("db", size=1, max_waiting=1) for _ in range(4)))
    assert [type(end) for end in ended] == [type(None), type(None), ToolFailure, ToolFailure]
    error = cast(ToolFailure, ended[-1]).error
    assert (error["code"], error["retryable"]) == ("postgres.pool", True)
    assert error["message"] == "all 1 connections of 'db' are in use, and 1 tasks wait for one"


async def test_one_that_waited_too_long_fails_and_is_not_counted_any_more() -> None:
    tasks = Tasks()
    first = asyncio.create_task(tasks.run("db", size=1))
    await asyncio.sleep(0)
    with pytest.raises(ToolFailure, match="was free within"):
        await tasks.run("db", size=1, timeout=0.01, max_waiting=1)
    waiting = asyncio.create_task(tasks.run("db", size=1, max_waiting=1))
    tasks.go_on.set()
    await asyncio.gather(first, waiting)


@pytest.mark.parametrize(("keep", "kept"), [(0, 4), (2, 4), (6, 6)])
def test_so_many_connections_stay_open(keep: int, kept: int) -> None:
    class Open:
        dropped = False

        def drop(self) -> None:
            self.dropped = True

    connections, credential = Connections(), Credential("db", "postgres", {})
    all_ = [Open() for _ in range(8)]
    for connection in all_:
        connections.give_back(credential, cast(Connection, connection), keep)
    assert sum(not connection.dropped for connection in all_) == kept
