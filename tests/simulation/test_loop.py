"""The world's clock and its processes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from .loop import Loop, Process


@pytest.fixture
def loop() -> Any:
    loop = Loop.create(random.Random(1))
    yield loop
    loop.close()


def test_time_jumps_to_the_next_timer_and_no_further(loop: Loop) -> None:
    log: list[float] = []

    async def work() -> None:
        for seconds in (3600.0, 0.5):
            await asyncio.sleep(seconds)
            log.append(loop.time())

    Process(loop, "a").spawn(work())
    loop.run(3600.2)
    assert (log, loop.now) == ([3600.0], 3600.2)
    loop.run(10_000)
    assert log == [3600.0, 3600.5]


def test_what_one_process_begins_it_does_in_order_and_two_are_mixed() -> None:
    orders = set()
    for seed in range(20):
        loop, log = Loop.create(random.Random(seed)), list[str]()

        async def work(name: str, log: list[str] = log) -> None:
            for step in "123":
                log.append(name + step)
                await asyncio.sleep(0)

        for name in "ab":
            Process(loop, name).spawn(work(name))
        loop.run(1.0)
        loop.close()
        assert [entry for entry in log if entry[0] == "a"] == ["a1", "a2", "a3"]
        orders.add("".join(log))
    assert len(orders) > 3


def test_nothing_of_a_dead_process_ever_runs_again(loop: Loop) -> None:
    log: list[str] = []
    process = Process(loop, "a")

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            log.append("cancelled")
        finally:
            log.append("finally")

    process.spawn(work())
    loop.later(1.0, loop.kill, process)
    loop.run(10.0)
    assert log == []
    process.spawn(work())
    loop.run(20.0)
    assert log == [], "nor does anything new"


def test_a_stalled_process_goes_on_where_it_was(loop: Loop) -> None:
    log: list[float] = []
    process = Process(loop, "a")

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            log.append(loop.time())

    process.spawn(work())
    loop.later(1.5, loop.stall, process, 10.0)
    loop.run(60.0)
    assert log == [1.0, 11.5, 12.5]


def test_timeouts_and_threads_are_on_the_same_clock(loop: Loop) -> None:
    log: list[Any] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        except TimeoutError:
            log.append(loop.time())
        log.append(await asyncio.to_thread(lambda: 7))

    Process(loop, "a").spawn(work())
    loop.run(100.0)
    assert log == [30.0, 7]
