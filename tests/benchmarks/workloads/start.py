"""start: an idle, warm stack; one step; from submit to completed as a client sees it."""

from __future__ import annotations

import asyncio
import time

from .. import playbooks
from ..quiet import measure
from ..result import Result, median, percentile
from ..stack import Bench

TIMES = 50
# long enough for the drain before, and the invocation kept for its end, to be over: a start invokes the worker
REST = 0.6


async def start(bench: Bench) -> list[Result]:
    """`value`: ms, the median; POST /api/execute, then one long poll of the events for the end.

    The floor: two commits, two requests (the submission, the report), one message, one Python call.
    """
    await bench.client.register(playbooks.single())
    await _some(bench, 5)
    measured = await measure(bench, lambda: _some(bench, TIMES))
    runs = measured.values
    p50s = [percentile(times, 0.5) for times in runs]
    extra = {
        "runs": p50s,
        "p95": median([percentile(times, 0.95) for times in runs]),
        "best": min(min(times) for times in runs),
        "worst": max(max(times) for times in runs),
        "floor_is": "2 commits + 2 requests + message + python",
        **measured.extra(TIMES * len(runs), "start"),
    }
    floors = bench.floors
    floor = None
    if floors:
        floor = 2 * floors["commit"] + 2 * floors["request"] + floors["message"] + floors["python"]
    return [Result("start", median(p50s), "ms", floor, extra)]


async def _some(bench: Bench, count: int) -> list[float]:
    times = []
    for _ in range(count):
        await asyncio.sleep(REST)
        started = time.perf_counter()
        await bench.client.wait(await bench.client.execute("bench/single"))
        times.append(1000 * (time.perf_counter() - started))
    return times
