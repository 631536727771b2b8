"""After its lease a worker begins nothing, even where the heart has not come to stop it yet."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.worker.execution.lease import Lease

ERROR = "{{ output.status == 'error' }}"


def running_out(bench: Bench, after: int, outcome: ToolOutcome) -> Callable[..., ToolOutcome]:
    """A tool during whose how-many-eth call the lease runs out."""
    calls = 0

    def behave(call: Any, context: Any) -> ToolOutcome:
        nonlocal calls
        calls += 1
        if calls == after:
            bench.lease.until = 0.0
        return outcome

    bench.lease.until = math.inf
    return behave


async def test_no_step_begins_after_its_lease(bench: Bench) -> None:
    tool = bench.tool("a")
    bench.lease.until = asyncio.get_running_loop().time()
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, len(tool.calls)) == ("released", 0)


async def test_no_retry_begins_after_the_lease(bench: Bench) -> None:
    tool = bench.tool("a", running_out(bench, 2, make.failed()))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=9))))
    assert (outcome.status, len(tool.calls)) == ("released", 2)


async def test_no_task_begins_after_the_lease(bench: Bench) -> None:
    bench.tool("a", running_out(bench, 1, make.ok()))
    second = bench.tool("b")
    outcome = await bench.run(make.step(make.task("a"), make.task("b")))
    assert (outcome.status, second.calls) == ("released", [])


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_no_item_begins_after_the_lease_and_what_is_done_is_reported(bench: Bench, concurrency: int) -> None:
    tool = bench.tool("a", running_out(bench, 4, make.ok(1)))
    each = make.step(make.task("a"), loop=make.loop())
    outcome = await bench.frame(each, list(range(20)), concurrency=concurrency)
    assert len(tool.calls) == 4
    assert (outcome.status, outcome.frame.end, outcome.data) == ("done", 4, [1, 1, 1, 1])


async def test_a_frame_without_anything_done_is_released(bench: Bench) -> None:
    tool = bench.tool("a")
    bench.lease.until = 0.0
    outcome = await bench.frame(make.step(make.task("a"), loop=make.loop()), [1, 2, 3], concurrency=2)
    assert (outcome.status, outcome.frame, len(tool.calls)) == ("released", None, 0)


async def test_what_outlived_its_lease_did_not_use_up_the_time_of_the_function(bench: Bench) -> None:
    bench.budget._over = bench.budget._start
    bench.lease.until = 0.0
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.error) == ("released", None)


async def test_an_answer_that_is_late_shortens_no_lease() -> None:
    now = asyncio.get_running_loop().time()
    lease = Lease(now + 1)
    lease.prolong(now + 3)
    lease.prolong(now + 2)
    assert lease.until == now + 3
