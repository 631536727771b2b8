"""How many slots are free, and when the next is for a fair claim."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from noetl_serverless.worker.drain import slots as module
from noetl_serverless.worker.drain.running import Running
from noetl_serverless.worker.drain.slots import Slots
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget


def running() -> Running:
    command: Any = None
    return Running(command, Lease())


async def test_what_runs_what_is_held_and_what_is_promised_is_not_free() -> None:
    slots = Slots(8, TimeBudget(60.0))
    assert slots.free == 8
    slots.running["7", "a"] = running()
    slots.add_holder(lambda: 2)
    slots.add_holder(lambda: 1)
    assert slots.free == 4
    slots.reserved = 3
    assert slots.free == 1


async def test_beside_a_command_that_runs_alone_none_is_free() -> None:
    slots = Slots(8, TimeBudget(60.0))
    slots.isolated = running()
    assert (slots.free, slots.accepts_work) == (0, False)
    slots.isolated.task = asyncio.create_task(asyncio.sleep(0))
    assert (slots.free, slots.accepts_work) == (0, True), "what follows from it may come with its answer"
    await slots.isolated.task


async def test_when_time_is_nearly_over_no_work_is_accepted() -> None:
    budget = TimeBudget(60.0)
    slots = Slots(8, budget)
    assert slots.accepts_work
    budget.stop()
    assert not slots.accepts_work


async def test_a_fair_claim_is_due_now_and_then_while_no_slot_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def every(seconds: float) -> None:
        monkeypatch.setattr(module, "FAIR_CLAIM_SECONDS", seconds)

    slots = Slots(1, TimeBudget(60.0))
    slots.running["7", "a"] = running()
    every(60.0)
    assert not slots.is_fair_claim_due, "the last one has just been"
    every(0.0)
    assert slots.is_fair_claim_due
    slots.running.clear()
    assert not slots.is_fair_claim_due, "a free slot is claimed for anyway"
    slots.reserved = 1
    assert slots.is_fair_claim_due
    slots._fair_claim_at -= 1000.0
    every(60.0)
    assert slots.is_fair_claim_due
    slots.record_fair_claim()
    assert not slots.is_fair_claim_due


async def test_whoever_waits_is_woken_by_a_change_or_by_the_time() -> None:
    slots = Slots(1, TimeBudget(60.0))
    waiting = asyncio.create_task(slots.wait_for_change(60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.wake()
    await asyncio.wait_for(waiting, 5)
    # an earlier change is none
    await asyncio.wait_for(slots.wait_for_change(0.01), 5)
