"""payload: 100 MB of JSON from one step to the next."""

from __future__ import annotations

import asyncio
from itertools import repeat

from .. import playbooks
from ..plain_file import seconds_to_read, seconds_to_write
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

MEGABYTES = 100


async def payload(bench: Bench) -> list[Result]:
    """The floor writes as many bytes to the same disk, waits until they are there, and reads them again."""
    await bench.client.register(playbooks.payload())
    await bench.client.run("bench/payload", {"mb": 1})
    plain: list[tuple[float, float]] = []

    async def once() -> float:
        plain.append(await asyncio.to_thread(_write_and_read, bench))
        return await _run(bench)

    measured = await measure(bench, once)
    floors = [write + read for write, read in plain]
    extra = {
        "runs": measured.values,
        "floor_runs": floors,
        "floor_write_s": median([write for write, _ in plain]),
        "floor_read_s": median([read for _, read in plain]),
        "least_ratio": min(measured.values) / min(floors),
        "mb": MEGABYTES,
        **measured.extra(len(measured.values), "run"),
        "peak_mb": measured.usage.peak_mb,
    }
    return [Result("payload", median(measured.values), "s", median(floors), extra)]


async def _run(bench: Bench) -> float:
    end = await bench.client.run("bench/payload", {"mb": MEGABYTES})
    if end.result != {"data": {"n": MEGABYTES * 1_000_000}}:
        raise RuntimeError(f"payload gave {end.result}")
    return end.seconds


def _write_and_read(bench: Bench) -> tuple[float, float]:
    path = bench.layout.home / "floor.json"
    chunks = repeat(b"x" * 1_000_000, MEGABYTES)
    try:
        return seconds_to_write(path, chunks), seconds_to_read(path)
    finally:
        path.unlink()
