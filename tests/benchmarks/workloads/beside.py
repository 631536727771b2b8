"""beside: one-step runs beside a loop of 100,000 items, a run without end, and 200 Python calls that sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from .. import playbooks
from ..result import Result, percentile
from ..stack import Bench

TIMES = 40
SLEEPERS = 200
# how long the others are given to fill all slots
SETTLE = 1.0
PAUSE = 0.1
# beyond, whoever waits behind the sleepers is taken to wait for all of them
LONGEST = 180.0


async def beside(bench: Bench) -> list[Result]:
    """`value`: ms, the median from submit to completed; the floor is the same on an idle stack. Python calls that sleep
    hold a process each: who needs one waits for the next that is free."""
    for text in (playbooks.single(), playbooks.fanout("wide", 16), playbooks.endless(), playbooks.sleep()):
        await bench.client.register(text)
    await _times(bench, 5)
    alone = percentile(await _times(bench, TIMES), 0.5)
    others: dict[str, Callable[[], Awaitable[list[str]]]] = {
        "loop": lambda: _start(bench, "bench/wide", 1, {"n": 100_000}),
        "endless": lambda: _start(bench, "bench/endless", 16),
        "sleepers": lambda: _start(bench, "bench/sleep", SLEEPERS),
    }
    return [await _beside(bench, name, start, alone) for name, start in others.items()]


async def _beside(bench: Bench, name: str, start: Callable[[], Awaitable[list[str]]], alone: float) -> Result:
    started = await start()
    await asyncio.sleep(SETTLE)
    began = time.perf_counter()
    times = await _times(bench, TIMES)
    took = time.perf_counter() - began
    last_runs = (await bench.client.get(started[-1]))["status"] == "RUNNING"
    for id in started:
        await bench.client.call("POST", f"/api/executions/{id}/cancel", {"reason": "measured"})
    extra = {
        "p95": percentile(times, 0.95),
        "worst": max(times),
        "times": len(times),
        "seconds": took,
        "last_of_them_runs": last_runs,
        "floor_is": "the same on an idle stack",
    }
    return Result(f"beside.{name}", percentile(times, 0.5), "ms", alone, extra)


async def _start(bench: Bench, path: str, count: int, payload: dict[str, int] | None = None) -> list[str]:
    return [await bench.client.execute(path, payload) for _ in range(count)]


async def _times(bench: Bench, count: int) -> list[float]:
    times: list[float] = []
    deadline = time.perf_counter() + LONGEST
    while len(times) < count and time.perf_counter() < deadline:
        await asyncio.sleep(PAUSE)
        started = time.perf_counter()
        await bench.client.wait(await bench.client.execute("bench/single"))
        times.append(1000 * (time.perf_counter() - started))
    return times
