"""payload: 100 MB from one step to the next."""

from __future__ import annotations

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

MEGABYTES = 100


async def payload(bench: Bench) -> list[Result]:
    await bench.client.register(playbooks.payload())
    await bench.client.run("bench/payload", {"mb": 1})
    measured = await measure(bench, lambda: _run(bench))
    extra = {
        "runs": measured.values,
        "mb": MEGABYTES,
        **measured.extra(len(measured.values), "run"),
        "peak_mb": measured.usage.peak_mb,
    }
    return [Result("payload", median(measured.values), "s", None, extra)]


async def _run(bench: Bench) -> float:
    end = await bench.client.run("bench/payload", {"mb": MEGABYTES})
    if end.result != {"data": {"n": MEGABYTES * 1_000_000}}:
        raise RuntimeError(f"payload gave {end.result}")
    return end.seconds
