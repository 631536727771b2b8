"""fanout: one parallel loop of trivial python items; the results are collected in order, and checked in a step."""

from __future__ import annotations

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

IN_FLIGHT = 64


async def fanout1000(bench: Bench) -> list[Result]:
    return [await _fanout(bench, "fanout1000", 1000, bench.runs)]


async def fanout10000(bench: Bench) -> list[Result]:
    return [await _fanout(bench, "fanout10000", 10_000, bench.runs)]


async def fanout100k(bench: Bench) -> list[Result]:
    """`per_item_ratio`: the time of an item over that of one of 10,000 in the same run."""
    few = await _fanout(bench, "fanout10000", 10_000, bench.runs)
    many = await _fanout(bench, "fanout100k", 100_000, 1)
    assert many.value is not None and few.value is not None
    many.extra["per_item_ratio"] = many.value / 10 / few.value
    return [many]


async def _fanout(bench: Bench, name: str, items: int, runs: int) -> Result:
    """`value`: seconds from the start to the end of the execution, the check included. The floor is as many calls of
    one warm Python process."""
    await bench.client.register(playbooks.fanout("fanout", IN_FLIGHT))
    await _run(bench, 200)
    measured = await measure(bench, lambda: _run(bench, items), runs)
    found = measured.values
    seconds = median([time for time, _ in found])
    extra = {
        "runs": [time for time, _ in found],
        "items_per_s": items / seconds,
        "events": found[-1][1],
        "max_in_flight": IN_FLIGHT,
        "floor_is": f"{items} python calls",
        **measured.extra(items * len(found), "item"),
        "peak_mb": measured.usage.peak_mb,
        "largest_mb": max(measured.usage.peak_mb.values()),
    }
    call = bench.floors.get("python")
    return Result(name, seconds, "s", None if call is None else items * call / 1000, extra)


async def _run(bench: Bench, items: int) -> tuple[float, int]:
    end = await bench.client.run("bench/fanout", {"n": items}, pause=0.2)
    if end.result != {"data": {"ok": True, "count": items}}:
        raise RuntimeError(f"the results of {items} items came back wrong: {end.result}")
    return end.seconds, await bench.client.events_count(end.execution_id)
