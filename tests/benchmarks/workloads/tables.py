"""tables: an Arrow table from one step to the next in one container, and what of it is written where."""

from __future__ import annotations

import asyncio
import os
from itertools import repeat
from pathlib import Path

import psutil

from .. import playbooks
from ..plain_file import seconds_to_write
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench, stack

SIZES_MB = (10, 100, 1000)
SAMPLE_SECONDS = 0.02
LOGGED = "SELECT sum(length(payload::text)) FROM noetl.event WHERE execution_id = :id"


async def tables(bench: Bench) -> list[Result]:
    """From when the first step has its table until the second one has it, and in `read_ms` from when the code of the
    second one asks for it; the floor writes as many bytes to the same disk, and waits until they are there."""
    # a table stays in shared memory for a while, and a worker has room for those of all runs
    variables = {"NOETL_SHARED_MEMORY_MB": str(2 * sum(SIZES_MB) * bench.runs)}
    async with stack(bench.runs, bench.options, variables) as roomy:
        await roomy.client.register(playbooks.tables())
        await roomy.client.run("bench/tables", {"mb": 1})
        return [await _of(roomy, megabytes) for megabytes in SIZES_MB]


async def _of(bench: Bench, megabytes: int) -> Result:
    peaks: dict[str, float] = {}
    logged: list[int] = []
    reads: list[float] = []

    async def once() -> float:
        sampling = asyncio.create_task(_sample(bench, peaks))
        try:
            end = await bench.client.run("bench/tables", {"mb": megabytes})
        finally:
            sampling.cancel()
        found = playbooks.read_table(end.result, megabytes)
        rows = bench.database.run(LOGGED, id=int(end.execution_id))
        logged.append(int(rows[0][0]))
        reads.append(1000 * found["read"])
        return found["seconds"]

    measured = await measure(bench, once)
    floor = median([await asyncio.to_thread(_write, bench.layout.home, megabytes) for _ in range(bench.runs)])
    extra = {
        "runs": measured.values,
        # from when the code of the second step asks for the table until it has it
        "read_ms": median(reads),
        "reads_ms": reads,
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
    path = folder / "floor.bin"
    try:
        return seconds_to_write(path, repeat(os.urandom(1_000_000), megabytes))
    finally:
        path.unlink()
