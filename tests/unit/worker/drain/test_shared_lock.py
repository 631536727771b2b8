from __future__ import annotations

import asyncio

import pytest

from noetl_serverless.worker.drain.shared_lock import SharedLock


async def test_one_alone_waits_for_all_and_holds_up_the_next() -> None:
    lock = SharedLock()
    seen: list[str] = []
    leave = asyncio.Event()

    async def shared(name: str) -> None:
        async with lock.shared():
            seen.append(f"{name} in")
            await leave.wait()
            seen.append(f"{name} out")

    async def alone() -> None:
        async with lock.exclusive():
            seen.append("alone in")
            await asyncio.sleep(0)
            seen.append("alone out")

    first, second = asyncio.create_task(shared("a")), asyncio.create_task(shared("b"))
    await asyncio.sleep(0)
    exclusive = asyncio.create_task(alone())
    await asyncio.sleep(0)
    third = asyncio.create_task(shared("c"))
    await asyncio.sleep(0)
    assert seen == ["a in", "b in"]
    leave.set()
    await asyncio.gather(first, second, exclusive, third)
    assert seen == ["a in", "b in", "a out", "b out", "alone in", "alone out", "c in", "c out"]


@pytest.mark.parametrize("many", [1, 2, 3])
async def test_however_many_there_were_one_alone_passes_when_the_last_has_left(many: int) -> None:
    lock = SharedLock()
    leave = [asyncio.Event() for _ in range(many)]

    async def shared(until: asyncio.Event) -> None:
        async with lock.shared():
            await until.wait()

    async def alone() -> None:
        async with lock.exclusive():
            return

    tasks = [asyncio.create_task(shared(until)) for until in leave]
    await asyncio.sleep(0)
    exclusive = asyncio.create_task(alone())
    for until in leave:
        await asyncio.sleep(0.001)
        assert not exclusive.done()
        until.set()
    await asyncio.wait_for(asyncio.gather(exclusive, *tasks), 5)


async def test_who_fails_inside_leaves_too() -> None:
    lock = SharedLock()
    with pytest.raises(ValueError, match="no"):
        async with lock.shared():
            raise ValueError("no")
    async with asyncio.timeout(5), lock.exclusive():
        pass
