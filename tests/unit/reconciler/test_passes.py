from __future__ import annotations

import asyncio

import pytest

from noetl_serverless.errors import Unavailable
from noetl_serverless.reconciler.passes import Passes
from noetl_serverless.reconciler.reconciler import MAX_ITEMS, Reconciler


class Slow(Reconciler):
    """Each pass lasts until it is let on, and does what it is given."""

    def __init__(self, *outcomes: dict[str, int] | Exception) -> None:
        self.outcomes = list(outcomes)
        self.begun = 0
        self.steps = asyncio.Semaphore(0)

    async def reconcile(self) -> dict[str, int]:
        number = self.begun
        self.begun += 1
        await self.steps.acquire()
        outcome = self.outcomes[number] if number < len(self.outcomes) else {}
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_burst_of_requests_costs_two_passes() -> None:
    """What came during the first pass may have come after it had looked."""
    slow = Slow({"timers": 1}, {"timers": 2})
    passes = Passes(slow)
    first = asyncio.create_task(passes.run())
    await settle()
    others = [asyncio.create_task(passes.run()) for _ in range(1000)]
    await settle()
    assert slow.begun == 1
    for _ in range(2):
        slow.steps.release()
    assert await first == {"timers": 1}
    assert await asyncio.gather(*others) == [{"timers": 2}] * 1000
    assert slow.begun == 2


async def test_a_request_after_a_pass_is_a_pass_of_its_own() -> None:
    slow = Slow()
    passes = Passes(slow)
    for _ in range(2):
        slow.steps.release()
        await passes.run()
    assert slow.begun == 2


async def test_a_pass_that_fails_fails_for_all_who_wait_for_it_and_for_nobody_else() -> None:
    slow = Slow(Unavailable("the database is away"), {"timers": 1})
    passes = Passes(slow)
    first = [asyncio.create_task(passes.run()) for _ in range(2)]
    await settle()
    later = asyncio.create_task(passes.run())
    await settle()
    for _ in range(2):
        slow.steps.release()
    for request in first:
        with pytest.raises(Unavailable):
            await request
    assert await later == {"timers": 1}


async def test_who_stops_waiting_does_not_stop_the_pass_of_the_others() -> None:
    slow = Slow({"timers": 1})
    passes = Passes(slow)
    impatient, patient = (asyncio.create_task(passes.run()) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    slow.steps.release()
    assert await patient == {"timers": 1}


@pytest.mark.parametrize(("count", "requests"), [(MAX_ITEMS, 1), (MAX_ITEMS - 1, 0)])
async def test_a_full_pass_asks_for_another(count: int, requests: int) -> None:
    requested: list[None] = []

    async def request_another() -> None:
        requested.append(None)

    slow = Slow({"timers": count})
    slow.steps.release()
    await Passes(slow, request_another).run()
    assert len(requested) == requests
