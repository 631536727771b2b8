"""payload: 100 MB from one step to the next."""

from __future__ import annotations

from .. import playbooks
from ..result import Result, median
from ..stack import Bench

MEGABYTES = 100


async def payload(bench: Bench) -> list[Result]:
    await bench.client.register(playbooks.payload())
    await bench.client.run("bench/payload", {"mb": 1})
    before, wal = bench.meter.read(), bench.wal()
    seconds = []
    for _ in range(bench.runs):
        end = await bench.client.run("bench/payload", {"mb": MEGABYTES})
        if end.result != {"data": {"n": MEGABYTES * 1_000_000}}:
            raise RuntimeError(f"payload gave {end.result}")
        seconds.append(end.seconds)
    usage, wal = bench.meter.since(before), bench.wal() - wal
    extra = {
        "runs": seconds,
        "mb": MEGABYTES,
        "cpu_ms": {part: spent / bench.runs for part, spent in usage.cpu_ms.items()},
        "wal_bytes": wal / bench.runs,
        "peak_mb": usage.peak_mb,
        "others_cores": usage.others,
    }
    return [Result("payload", median(seconds), "s", None, extra)]
