"""results_kv: 10,000 results that are small enough for the key-value bucket of NATS, stored and read again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import nats
from nats.js.api import KeyValueConfig

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_results import NatsResultStore
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import KV, ResultStores

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

RESULTS = 10_000
# too large for an event, as a page of an API or a document often is
RESULT_BYTES = 100_000
# as many as a worker runs commands at once
AT_ONCE = 16
# by steps: each result costs two of them
OF_STEPS = 1_000

# puts an object of this number and says whether it comes back
PutAndGet = Callable[[int], Awaitable[bool]]


async def results_kv(bench: Bench) -> list[Result]:
    """Results per second, each stored and read again, 16 at a time, as a worker does it; the floor puts the same bytes
    with NATS's own client, and gets them. `results_kv.steps`: by two steps of executions each, the second one in
    another worker."""
    await bench.client.register(playbooks.kept("results_kv", KV, "io"))
    await _of_steps(bench, AT_ONCE)
    floors: list[float] = []

    async def once() -> float:
        floors.append(await _rate(_bare_bucket(bench)))
        return await _rate(_worker(bench))

    alone = await measure(bench, once)
    steps = await measure(bench, lambda: _of_steps(bench, OF_STEPS))
    extra = {"bytes": RESULT_BYTES, "at_once": AT_ONCE, "floor_runs": floors}
    floor = median(floors)
    per_result = steps.extra(len(steps.values) * OF_STEPS, "result")
    return [
        Result("results_kv", median(alone.values), "results/s", floor, {"runs": alone.values, **extra}),
        Result("results_kv.steps", median(steps.values), "results/s", floor, {"runs": steps.values, **per_result}),
    ]


async def _of_steps(bench: Bench, count: int) -> float:
    started = time.perf_counter()
    turns = count // AT_ONCE
    await asyncio.gather(*(_execution(bench, turns) for _ in range(AT_ONCE)))
    return turns * AT_ONCE / (time.perf_counter() - started)


async def _execution(bench: Bench, turns: int) -> None:
    end = await bench.client.run("bench/results_kv", {"n": turns, "size": RESULT_BYTES}, pause=0.2)
    if end.result != {"data": {"n": turns}}:
        raise RuntimeError(f"results_kv gave {end.result}")


async def _rate(opened: AbstractAsyncContextManager[PutAndGet]) -> float:
    async with opened as put_and_get:

        async def some(first: int) -> None:
            for number in range(first, RESULTS, AT_ONCE):
                if not await put_and_get(number):
                    raise RuntimeError(f"result {number} came back wrong")

        started = time.perf_counter()
        await asyncio.gather(*(some(first) for first in range(AT_ONCE)))
        return RESULTS / (time.perf_counter() - started)


@asynccontextmanager
async def _worker(bench: Bench) -> AsyncIterator[PutAndGet]:
    """What a worker does with a result, and the next one that reads it."""
    connection = NatsConnection(bench.run["nats_url"])
    bucket = f"bench_{secrets.token_hex(4)}"
    store = NatsResultStore(connection, bucket)
    stores = ResultStores(FsspecResultStore((bench.layout.home / bucket).as_uri()), kv=store)
    output = Output(kind=KV)
    # as in another process
    resolver = Resolver(stores, cache_bytes=0)

    async def put_and_get(number: int) -> bool:
        data = {"blob": "x" * RESULT_BYTES}
        place = Place(execution_id="1", step="bench", suffix=str(number))
        ref: dict[str, Any] = (await externalise(data, place, stores, output))["ref"]
        found: dict[str, str] = await resolver.load(ref)
        return ref["store"] == KV and found == data

    try:
        yield put_and_get
    finally:
        await (await connection.jetstream()).delete_stream(f"KV_{bucket}")
        await connection.close()


@asynccontextmanager
async def _bare_bucket(bench: Bench) -> AsyncIterator[PutAndGet]:
    client = await nats.connect(bench.run["nats_url"])
    context = client.jetstream()
    bucket = f"bench_{secrets.token_hex(4)}"
    # read as the engine's are: `direct`
    entries = await context.create_key_value(KeyValueConfig(bucket=bucket, direct=True))
    content = b'{"blob":"%s"}' % (b"x" * RESULT_BYTES)

    async def put_and_get(number: int) -> bool:
        await entries.put(f"{number}", content)
        return (await entries.get(f"{number}")).value == content

    try:
        yield put_and_get
    finally:
        await context.delete_key_value(bucket)
        await client.close()
