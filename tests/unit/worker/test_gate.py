from __future__ import annotations

import asyncio

from noetl_serverless.worker.gate import Gate


async def test_one_alone_waits_for_all_and_holds_up_the_next() -> None:
    gate = Gate()
    seen: list[str] = []
    leave = asyncio.Event()

    async def shared(name: str) -> None:
        async with gate.shared():
            seen.append(f"{name} in")
            await leave.wait()
            seen.append(f"{name} out")

    async def alone() -> None:
        async with gate.exclusive():
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
