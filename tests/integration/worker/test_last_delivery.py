"""A command that is delivered for the last time runs alone, so that it takes nobody along if it kills its worker."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.eventually import eventually
from tests.integration.worker.conftest import WorkerHarness, own

LAST = 3


async def send(harness: WorkerHarness, **deliveries: int) -> None:
    commands = [harness.plane.command(name, own(name), delivery=count) for name, count in deliveries.items()]
    await harness.notifier.publish("shared", harness.plane.add(*commands))


async def test_it_waits_for_the_others_and_the_others_for_it(harness: WorkerHarness) -> None:
    beside: dict[str, int] = {}

    async def look(n: Any) -> None:
        beside[n] = harness.tool.running
        await asyncio.sleep(0.05)
        beside[n] = max(beside[n], harness.tool.running)

    harness.tool.behave = look
    await send(harness, suspect=LAST, a=1, b=LAST - 1)
    drain = asyncio.create_task(harness.worker(max_deliveries=LAST).drain(10))
    await eventually(lambda: "suspect" in beside)
    await send(harness, c=1)
    await drain

    assert harness.plane.done() == ["a", "b", "c", "suspect"]
    assert beside["suspect"] == 1
    assert beside["a"] == beside["b"] == 2


async def test_of_several_one_is_kept_and_the_rest_handed_back_before_it_begins(harness: WorkerHarness) -> None:
    begun: list[tuple[str, int]] = []

    def look(n: Any) -> None:
        begun.append((n, len(harness.plane.claimed)))

    harness.tool.behave = look
    await send(harness, a=LAST, b=LAST, c=LAST)
    worker = harness.worker(max_deliveries=LAST)
    await worker.drain(10)
    assert [name for name, _ in begun] == ["a"]
    released = [outcome.command_id for outcome in harness.plane.outcomes if outcome.status == "released"]
    assert sorted(released) == ["b", "c"]
    while harness.plane.pending:
        await worker.drain(10, sweep=True)

    assert harness.plane.done() == ["a", "b", "c"]
    # whenever one began, it was all that the worker held
    assert {held for _, held in begun} == {1}


async def test_what_follows_from_others_does_not_make_it_wait(harness: WorkerHarness) -> None:
    harness.plane.follow = lambda outcome: (
        [harness.plane.command(f"{outcome.command_id}'", outcome.execution_id)] if len(outcome.command_id) < 50 else []
    )
    await send(harness, suspect=LAST, a=1)
    await harness.worker(max_deliveries=LAST).drain(10)

    assert harness.tool.ran.index("suspect") == 1


async def test_it_is_released_by_a_worker_that_is_asked_to_stop(harness: WorkerHarness) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> None:
        await gate.wait()

    harness.tool.behave = wait
    await send(harness, a=1, suspect=LAST)
    worker = harness.worker(max_deliveries=LAST)
    drain = asyncio.create_task(worker.drain(10))
    await eventually(lambda: harness.tool.running and len(harness.plane.claimed) == 2)
    worker.stop()
    gate.set()
    await drain

    assert harness.plane.done() == ["a"]
    assert list(harness.plane.pending) == [(own("suspect"), "suspect")]


async def test_one_that_is_lost_while_it_waits_holds_nobody_up(harness: WorkerHarness) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> None:
        if n == "a":
            await gate.wait()

    harness.tool.behave = wait
    await send(harness, a=1, suspect=LAST)
    drain = asyncio.create_task(harness.worker(max_deliveries=LAST, lease=0.15).drain(10))
    await eventually(lambda: harness.tool.running and len(harness.plane.claimed) == 2)
    del harness.plane.claimed[own("suspect"), "suspect"]
    await send(harness, b=1)
    await eventually(lambda: "b" in harness.plane.done())
    gate.set()
    await drain

    assert harness.tool.ran == ["a", "b"]


async def test_a_first_delivery_is_never_set_apart(harness: WorkerHarness) -> None:
    await send(harness, a=1, b=1)
    await harness.worker(max_deliveries=1).drain(10)

    assert not any(outcome.status == "released" for outcome in harness.plane.outcomes)
    assert harness.plane.done() == ["a", "b"]
