from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest
from tests.eventually import eventually

from noetl_serverless.tools import idle_children
from noetl_serverless.tools.idle_children import MAX_IDLE, IdleChildren
from noetl_serverless.tools.python_process import PythonProcess


class Pool:
    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.flushed = 0
        self.made: list[PythonProcess] = []
        self.idle = IdleChildren(100, lambda child: self.dropped.append(child.pid), self.flush)

    def flush(self) -> None:
        self.flushed += 1

    def add(self, pid: int, execution: str, mb: int = 0) -> PythonProcess:
        ours, theirs = socket.socketpair()
        theirs.close()
        child = PythonProcess(pid, ours, os.open(os.devnull, os.O_RDONLY), 100)
        child.execution = execution
        self.made.append(child)
        self.idle.add(child, mb)
        return child


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    for child in made.made:
        child.release()


async def test_an_execution_gets_the_child_that_it_used_last_and_no_other(pool: Pool) -> None:
    children = [pool.add(1, "a"), pool.add(2, "a"), pool.add(3, "b")]
    assert pool.idle.take("c") is None
    assert [pool.idle.take("a"), pool.idle.take("a"), pool.idle.take("a")] == [children[1], children[0], None]
    assert pool.idle.take("b") is children[2]


async def test_of_too_many_the_one_that_is_idle_for_longest_goes(pool: Pool) -> None:
    for pid in range(MAX_IDLE):
        pool.add(pid, str(pid))
    again = pool.idle.take("0")
    assert again is not None
    pool.idle.add(again, 0)
    pool.add(MAX_IDLE, "one more")
    assert pool.dropped == [1], "the one that was used last has gone, or none"


async def test_they_hold_no_more_memory_together_than_one_may(pool: Pool) -> None:
    for pid in range(3):
        pool.add(pid, "a", mb=40)
    assert pool.dropped == [0]
    pool.add(3, "b", mb=101)
    assert pool.dropped == [0, 1, 2, 3], "one that alone holds too much stays"
    pool.add(4, "c", mb=100)
    assert pool.dropped[4:] == [], "what has gone is still counted"


async def test_they_go_after_a_while(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_children, "IDLE_SECONDS", 0.05)
    for pid in range(2):
        pool.add(pid, str(pid))
        await asyncio.sleep(0.02)
    await eventually(lambda: len(pool.dropped) == 2)
    assert (pool.dropped, list(pool.idle)) == ([0, 1], [])
    assert pool.flushed, "they go only when something else is to be done"


def test_one_event_loop_after_another_ends_them(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_children, "IDLE_SECONDS", 0.02)

    async def add(pid: int) -> None:
        pool.add(pid, str(pid))

    async def add_and_wait() -> None:
        await add(2)
        await eventually(lambda: len(pool.dropped) == 2)

    asyncio.run(add(1))
    asyncio.run(add_and_wait())
    assert sorted(pool.dropped) == [1, 2]
