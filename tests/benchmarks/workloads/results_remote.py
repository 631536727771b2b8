"""results_s3, results_gcs: an Arrow table from one step to the next, whose workers share no memory."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow

from .. import playbooks
from ..bare_clients import BareClient, BareGcs, BareS3
from ..metrics import counted
from ..nodes import move_to_another_node
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench, fresh_layout, stack

MEGABYTES = 100
# of the worker that reads: no other than `shared`, which writes
POOL = "io"
# whatever the reason: another node, or no hint, once the memory of the first worker is full
READS = 'noetl_result_reads_total{from="store",'


async def results_s3(bench: Bench) -> list[Result]:
    return await _through(bench, "results_s3", BareS3)


async def results_gcs(bench: Bench) -> list[Result]:
    return await _through(bench, "results_gcs", BareGcs)


async def _through(bench: Bench, name: str, start: Callable[[Path], BareClient]) -> list[Result]:
    """From when the first step has its table until the second one has it, in a process on another node; the
    floor puts the same bytes into the same server and gets them again, with its own client."""
    with fresh_layout(bench.options) as place:
        client = await asyncio.to_thread(start, place.home)
        try:
            variables = {**client.variables, "NOETL_RESULT_URL": client.url}
            async with stack(bench.runs, bench.options, variables, processes="separate") as apart:
                await move_to_another_node(apart, f"worker_{POOL}")
                return [await _measured(apart, name, client)]
        finally:
            client.stop()


async def _measured(bench: Bench, name: str, client: BareClient) -> Result:
    await bench.client.register(playbooks.tables(name, POOL))
    content = await asyncio.to_thread(_stream)
    bare: list[tuple[float, float]] = []

    async def once() -> float:
        bare.append(await asyncio.to_thread(_put_and_get, client, content))
        return await _run(bench, name, MEGABYTES)

    await _run(bench, name, 1)
    await asyncio.to_thread(_put_and_get, client, content)
    before = await _reads(bench)
    measured = await measure(bench, once)
    reads = await _reads(bench) - before
    if reads < len(measured.values):
        raise RuntimeError(f"only {reads:g} tables were read from the store, of {len(measured.values)}")
    extra = {
        "runs": measured.values,
        "floor_runs": [put + get for put, get in bare],
        "floor_put_s": median([put for put, _ in bare]),
        "floor_get_s": median([get for _, get in bare]),
        "least_ratio": min(measured.values) / min(put + get for put, get in bare),
        "mb": MEGABYTES,
        **measured.extra(len(measured.values), "run"),
        "peak_mb": measured.usage.peak_mb,
    }
    return Result(name, median(measured.values), "s", median([put + get for put, get in bare]), extra)


async def _reads(bench: Bench) -> float:
    """Tables that the second step's worker has read from the store."""
    found = await counted(bench, f"worker_{POOL}")
    return sum(value for name, value in found.items() if name.startswith(READS))


async def _run(bench: Bench, name: str, megabytes: int) -> float:
    end = await bench.client.run(f"bench/{name}", {"mb": megabytes})
    return playbooks.read_table(end.result, megabytes)["seconds"]


def _stream() -> bytes:
    """What a step's table of this size is, as it is stored."""
    table = playbooks.table(MEGABYTES)
    target = io.BytesIO()
    with pyarrow.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    return target.getvalue()


def _put_and_get(client: BareClient, content: bytes) -> tuple[float, float]:
    """Seconds of each."""
    key = f"floor/{secrets.token_hex(8)}"
    started = time.perf_counter()
    client.put(key, content)
    put = time.perf_counter()
    found = client.get(key)
    got = time.perf_counter()
    if found != content:
        raise RuntimeError("the bare client got other bytes than it had put")
    client.delete(key)
    return put - started, got - put
