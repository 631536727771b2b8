"""chain100: one execution, 100 trivial python steps, one after the other; and the same with pipelined durability."""

from __future__ import annotations

import time

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

LENGTH = 100
# how often an undisturbing client looks, in seconds
PAUSE = 0.1


async def chain100(bench: Bench) -> list[Result]:
    return [await _measured(bench, "chain100", "step")]


async def chain100_pipelined(bench: Bench) -> list[Result]:
    return [await _measured(bench, "chain100_pipelined", "pipelined")]


async def _measured(bench: Bench, name: str, durability: str) -> Result:
    """`value`: ms per step by the timestamps of the events, from the first to the last, while the client looks
    ten times a second. `client`: submit to completed as a client sees it that long-polls all the time."""
    await bench.client.register(playbooks.chain(name, LENGTH, durability))
    path = f"bench/{name}"
    await _run(bench, path)
    looked_at = await measure(bench, lambda: _run(bench, path))
    followed = await measure(bench, lambda: _followed(bench, path))
    events = [1000 * seconds / LENGTH for seconds in looked_at.values]
    extra = {
        "runs": events,
        "client_ms": 1000 * median(followed.values) / LENGTH,
        "floor_is": "commit",
        "path_floor_ms": sum(bench.floors.get(name, 0.0) for name in ("commit", "request", "python")),
        **looked_at.extra(LENGTH * len(events), "step"),
    }
    return Result(name, median(events), "ms/step", bench.floors.get("commit"), extra)


async def _run(bench: Bench, path: str) -> float:
    end = await bench.client.run(path, pause=PAUSE)
    if end.result != {"data": {"n": LENGTH}}:
        raise RuntimeError(f"{path} gave {end.result}")
    return end.seconds


async def _followed(bench: Bench, path: str) -> float:
    started = time.perf_counter()
    await bench.client.wait(await bench.client.execute(path))
    return time.perf_counter() - started
