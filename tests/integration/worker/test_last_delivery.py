"""A command that is delivered for the last time runs alone, so that it takes nobody along if it kills its worker."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.eventually import eventually
from tests.integration.worker.conftest import Yard, own

LAST = 3


async def send(yard: Yard, **deliveries: int) -> None:
    commands = [yard.plane.command(name, own(name), delivery=count) for name, count in deliveries.items()]
    await yard.notifier.publish("shared", yard.plane.add(*commands))


async def test_it_waits_for_the_others_and_the_others_for_it(yard: Yard) -> None:
    beside: dict[str, int] = {}

    async def look(n: Any) -> None:
        beside[n] = yard.tool.running
        await asyncio.sleep(0.05)
        beside[n] = max(beside[n], yard.tool.running)

    yard.tool.behave = look
    await send(yard, suspect=LAST, a=1, b=LAST - 1)
    drain = asyncio.create_task(yard.worker(max_deliveries=LAST).drain(10))
    await eventually(lambda: "suspect" in beside)
    await send(yard, c=1)
    await drain

    assert yard.plane.done() == ["a", "b", "c", "suspect"]
    assert beside["suspect"] == 1
    assert beside["a"] == beside["b"] == 2


async def test_of_several_one_is_kept_and_the_rest_handed_back_before_it_begins(yard: Yard) -> None:
    begun: list[tuple[str, int]] = []

    def look(n: Any) -> None:
        begun.append((n, len(yard.plane.claimed)))

    yard.tool.behave = look
    await send(yard, a=LAST, b=LAST, c=LAST)
    worker = yard.worker(max_deliveries=LAST)
    await worker.drain(10)
    assert [name for name, _ in begun] == ["a"]
    released = [outcome.command_id for outcome in yard.plane.outcomes if outcome.status == "released"]
    assert sorted(released) == ["b", "c"]
    while yard.plane.pending:
        await worker.drain(10, sweep=True)

    assert yard.plane.done() == ["a", "b", "c"]
    # whenever one began, it was all that the worker held
    assert {held for _, held in begun} == {1}


async def test_what_follows_from_others_does_not_make_it_wait(yard: Yard) -> None:
    yard.plane.follow = lambda outcome: (
        [yard.plane.command(f"{outcome.command_id}'", outcome.execution_id)] if len(outcome.command_id) < 50 else []
    )
    await send(yard, suspect=LAST, a=1)
    await yard.worker(max_deliveries=LAST).drain(10)

    assert yard.tool.ran.index("suspect") == 1


async def test_it_is_released_by_a_worker_that_is_asked_to_stop(yard: Yard) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> None:
        await gate.wait()

    yard.tool.behave = wait
    await send(yard, a=1, suspect=LAST)
    worker = yard.worker(max_deliveries=LAST)
    drain = asyncio.create_task(worker.drain(10))
    await eventually(lambda: yard.tool.running and len(yard.plane.claimed) == 2)
    worker.stop()
    gate.set()
    await drain

    assert yard.plane.done() == ["a"]
    assert list(yard.plane.pending) == [(own("suspect"), "suspect")]


async def test_one_that_is_lost_while_it_waits_holds_nobody_up(yard: Yard) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> None:
        if n == "a":
            await gate.wait()

    yard.tool.behave = wait
    await send(yard, a=1, suspect=LAST)
    drain = asyncio.create_task(yard.worker(max_deliveries=LAST, lease=0.15).drain(10))
    await eventually(lambda: yard.tool.running and len(yard.plane.claimed) == 2)
    del yard.plane.claimed[own("suspect"), "suspect"]
    await send(yard, b=1)
    await eventually(lambda: "b" in yard.plane.done())
    gate.set()
    await drain

    assert yard.tool.ran == ["a", "b"]


async def test_a_first_delivery_is_never_set_apart(yard: Yard) -> None:
    await send(yard, a=1, b=1)
    await yard.worker(max_deliveries=1).drain(10)

    assert not any(outcome.status == "released" for outcome in yard.plane.outcomes)
    assert yard.plane.done() == ["a", "b"]
