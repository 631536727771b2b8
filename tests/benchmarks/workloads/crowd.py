"""crowd: 20,000 executions of 3 steps open at once, beside 200."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from .. import playbooks
from ..metrics import counted, grown
from ..result import Result
from ..stack import Bench, stack

MANY = 20_000
FEW = 200
STEPS = 3
AT_ONCE = 48
PAUSE = 0.2
LONGEST = 600.0
OPEN = "SELECT count(*) FROM noetl.execution WHERE path = 'bench/crowd' AND status = 'RUNNING'"
WRONG = """
SELECT count(*) FROM noetl.execution WHERE path = 'bench/crowd'
AND (status <> 'COMPLETED' OR result -> 'data' ->> 'n' <> :steps)
"""
PASSES = "noetl_reconciler_pass_seconds"


async def crowd(bench: Bench) -> list[Result]:
    """`value`: steps per second from the moment that the worker may begin, with all 20,000 open. `submit_per_s`: how
    fast they were taken in. `slow_passes`: those of the reconciler that took more than a second.

    On a stack whose functions have processes of their own, so that the worker can be held on its own."""
    async with stack(bench.runs, bench.options, processes="separate") as apart:
        return await _measured(apart)


async def _measured(bench: Bench) -> list[Result]:
    await bench.client.register(playbooks.chain("crowd", STEPS))
    await _run(bench, FEW)
    few = [await _run(bench, FEW) for _ in range(bench.runs)]
    before = await counted(bench, "reconciler")
    started = bench.meter.read()
    many, submitted = await _run(bench, MANY)
    after, usage = await counted(bench, "reconciler"), bench.meter.since(started)
    wrong = int(bench.database.run(WRONG, steps=str(STEPS))[0][0])
    if wrong:
        raise RuntimeError(f"{wrong} executions went wrong")
    rate = sorted(rate for rate, _ in few)[len(few) // 2]
    passes = grown(before, after, f"{PASSES}_count")
    extra = {
        "few": rate,
        "over_few": many / rate,
        "submit_per_s": submitted,
        "passes": passes,
        "slow_passes": passes - grown(before, after, f'{PASSES}_bucket{{le="1.0"}}'),
        "cpu_ms_per_step": usage.per(MANY * STEPS),
        "peak_mb": usage.peak_mb,
        "others_cores": usage.others,
    }
    return [Result("crowd", many, "steps/s", rate, {"floor_is": f"the same with {FEW}", **extra})]


async def _run(bench: Bench, count: int) -> tuple[float, float]:
    """(steps per second, submissions per second)."""
    started = time.perf_counter()
    with _held(bench.run["pids"]["worker"]):
        await _submit(bench, count)
        submitted = time.perf_counter()
        found = int(bench.database.run(OPEN)[0][0])
        _check(found == count, f"{found} of {count} executions are open")
    deadline = submitted + LONGEST
    while int(bench.database.run(OPEN)[0][0]):
        _check(time.perf_counter() < deadline, f"the executions have not ended after {LONGEST:g} s")
        await asyncio.sleep(PAUSE)
    return count * STEPS / (time.perf_counter() - submitted), count / (submitted - started)


@contextmanager
def _held(worker: int) -> Iterator[None]:
    """No worker runs anything meanwhile: so all that is submitted is open at once."""
    # the server's process has forked those that serve
    leader = psutil.Process(worker)
    processes = [leader, *leader.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def _submit(bench: Bench, count: int) -> None:
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await bench.client.execute("bench/crowd")

    await asyncio.gather(*(some() for _ in range(min(AT_ONCE, count))))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise RuntimeError(message)
