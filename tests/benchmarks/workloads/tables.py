"""tables: an Arrow table from one step to the next in one container, and what of it is written where."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

SIZES_MB = (10, 100, 1000)
SAMPLE_SECONDS = 0.02
LOGGED = "SELECT sum(length(payload::text)) FROM noetl.event WHERE execution_id = :id"


async def tables(bench: Bench) -> list[Result]:
    """From when the first step has its table until the second one has it; the floor writes the same bytes to the same
    disk, and waits until they are there."""
    await bench.client.register(playbooks.tables())
    await bench.client.run("bench/tables", {"mb": 1})
    return [await _of(bench, megabytes) for megabytes in SIZES_MB]


async def _of(bench: Bench, megabytes: int) -> Result:
    peaks: dict[str, float] = {}
    logged: list[int] = []

    async def once() -> float:
        sampling = asyncio.create_task(_sample(bench, peaks))
        try:
            end = await bench.client.run("bench/tables", {"mb": megabytes})
        finally:
            sampling.cancel()
        found = end.result["data"] if isinstance(end.result, dict) and "data" in end.result else end.result
        if not isinstance(found, dict) or found.get("rows") != megabytes * 125_000:
            raise RuntimeError(f"tables gave {end.result}")
        rows = bench.database.run(
            "SELECT sum(length(payload::text)) FROM noetl.event WHERE execution_id = :id", id=int(end.execution_id)
        )
        logged.append(int(rows[0][0]))
        return float(found["seconds"])

    measured = await measure(bench, once)
    floor = median([await asyncio.to_thread(_write, bench.layout.home, megabytes) for _ in range(bench.runs)])
    extra = {
        "runs": measured.values,
        # memory of its own, which files that are mapped are not
        "peak_anonymous_mb": peaks,
        "logged_bytes": max(logged),
        **measured.extra(len(measured.values), "run"),
    }
    return Result(f"tables_{megabytes}mb", median(measured.values), "s", floor, extra)


async def _sample(bench: Bench, peaks: dict[str, float]) -> None:
    """The most RssAnon of each part's processes, in MB."""
    while True:
        for part, process in bench.meter.processes():
            peaks[part] = max(peaks.get(part, 0.0), _anonymous_mb(process))
        await asyncio.sleep(SAMPLE_SECONDS)


def _anonymous_mb(process: psutil.Process) -> float:
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _write(folder: Path, megabytes: int) -> float:
    """Seconds to write and sync as many bytes."""
    chunk = os.urandom(1_000_000)
    path = folder / "floor.bin"
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(megabytes):
            file.write(chunk)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds
