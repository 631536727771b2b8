"""What nothing that stands on these parts can beat: one commit, one message, one request, one Python call."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import nats
import psutil
from nats.js.api import StorageType, StreamConfig

from noetl_serverless.hosts.local.os_user import unprivileged
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import _reachable_binaries
from noetl_serverless.store.connection import connect
from noetl_serverless.tools.python_pool import PythonPool

from .result import Result, median
from .stack import Bench

CLIENTS = 8
COMMITS = 1000
SECONDS = 2.0
MESSAGES = 500
REQUESTS = 1000
CALLS = 1000
FORKS = 500
PURE = "result = {'n': n + 1}"
# whose child serves nothing else
IMPURE = f"import math\n{PURE}"

TABLE = """
CREATE TABLE IF NOT EXISTS bench_floor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, body text)
"""
INSERT = "INSERT INTO bench_floor (at, body) VALUES (now(), :body)"
BODY = "x" * 100


async def floors(bench: Bench) -> list[Result]:
    """Measured one after the other; also left in `bench.floors`."""
    bench.database.run(TABLE)
    url = str(bench.run["database_url"])
    found = [
        await asyncio.to_thread(_commit, bench, url),
        await asyncio.to_thread(_commits_together, bench, url),
        *await asyncio.to_thread(_pgbench, bench, url),
        await _message(bench),
        await _request(bench),
        await asyncio.to_thread(_python_call, bench),
        await _pool_call(bench),
        await _fork(bench),
    ]
    bench.database.run("DROP TABLE bench_floor")
    bench.floors = {line.workload.removeprefix("floor."): line.value for line in found if line.value is not None}
    return found


def _commit(bench: Bench, url: str) -> Result:
    """ms of one INSERT that is a transaction by itself, one connection, one round trip."""
    connection = connect(url)
    try:
        times = [_times(lambda: connection.run(INSERT, body=BODY), COMMITS) for _ in range(bench.runs)]
    finally:
        connection.close()
    return Result(
        "floor.commit", median([median(run) for run in times]), "ms", extra={"client": "pg8000, one round trip"}
    )


def _commits_together(bench: Bench, url: str) -> Result:
    """Commits per second of 8 processes with a connection each."""
    rates = [_storm(url) for _ in range(bench.runs)]
    return Result("floor.commits8", median(rates), "1/s", extra={"client": "pg8000, 8 processes"})


def _storm(url: str) -> float:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(CLIENTS)
    with context.Pool(CLIENTS, _remember, (ready,)) as pool:
        counts = pool.map(_insert_for_a_while, [url] * CLIENTS, chunksize=1)
    return sum(counts) / SECONDS


_ready: Barrier


def _remember(ready: Barrier) -> None:
    global _ready
    _ready = ready


def _insert_for_a_while(url: str) -> int:
    connection = connect(url)
    connection.run(INSERT, body=BODY)
    _ready.wait()
    end = time.perf_counter() + SECONDS
    count = 0
    while time.perf_counter() < end:
        connection.run(INSERT, body=BODY)
        count += 1
    connection.close()
    return count


def _pgbench(bench: Bench, url: str) -> list[Result]:
    """The same by a client in C: what the server itself can do."""
    program = _reachable_binaries(unprivileged()) / "pgbench"
    if not program.exists():
        return []
    script = bench.layout.home / "floor.sql"
    script.write_text(f"INSERT INTO bench_floor (at, body) VALUES (now(), '{BODY}');\n")
    found = []
    for clients, name in ((1, "floor.pgbench1"), (CLIENTS, "floor.pgbench8")):
        rates = [_pgbench_rate(program, url, script, clients) for _ in range(bench.runs)]
        extra = {"client": f"pgbench -M prepared, {clients} connection(s)", "ms": 1000 * clients / median(rates)}
        found.append(Result(name, median(rates), "1/s", extra=extra))
    return found


def _pgbench_rate(program: Path, url: str, script: Path, clients: int) -> float:
    parts = urlsplit(url)
    argv = [
        *(str(program), "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(2, clients)), "-T", f"{SECONDS:.0f}"),
        *("-f", str(script), "-h", parts.hostname or "", "-p", str(parts.port), "-U", parts.username or ""),
        parts.path.lstrip("/"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PGPASSWORD": parts.password or ""}, check=False)
    rate = re.search(r"tps = ([0-9.]+)", done.stdout)
    if rate is None:
        raise RuntimeError(f"pgbench failed: {done.stderr}")
    return float(rate.group(1))


async def _message(bench: Bench) -> Result:
    """ms from publish to delivery, through a JetStream stream on disk."""
    client = await nats.connect(bench.run["nats_url"])
    stream = f"FLOOR_{secrets.token_hex(4)}"
    context = client.jetstream()
    await context.add_stream(StreamConfig(name=stream, subjects=[stream.lower()], storage=StorageType.FILE))
    try:
        subscription = await context.subscribe(stream.lower(), ordered_consumer=True)
        times = []
        for _ in range(MESSAGES):
            started = time.perf_counter()
            await client.publish(stream.lower(), b"x" * 60)
            await subscription.next_msg(5)
            times.append(1000 * (time.perf_counter() - started))
        await subscription.unsubscribe()
        stored = []
        for _ in range(MESSAGES):
            started = time.perf_counter()
            await context.publish(stream.lower(), b"x" * 60)
            stored.append(1000 * (time.perf_counter() - started))
    finally:
        await context.delete_stream(stream)
        await client.close()
    return Result("floor.message", median(times), "ms", extra={"confirmed_ms": median(stored)})


async def _request(bench: Bench) -> Result:
    """ms of a POST to a function that does nothing, served as ours are, over a connection kept alive."""
    with _noop_function() as url:
        async with aiohttp.ClientSession() as session:
            await _answers(session, url)
            times = []
            for _ in range(REQUESTS):
                started = time.perf_counter()
                async with session.post(url, data=b"{}") as response:
                    await response.read()
                times.append(1000 * (time.perf_counter() - started))
            together = await _requests_together(session, url)
    return Result("floor.request", median(times), "ms", extra={"p95": _p95(times), "rate16": together})


@contextmanager
def _noop_function() -> Iterator[str]:
    """Its URL."""
    port = free_port()
    source = Path(__file__).with_name("noop_function.py")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "functions_framework", "--asgi", "--target", "noop", "--source", str(source)),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


async def _requests_together(session: aiohttp.ClientSession, url: str) -> float:
    """Requests per second of 16 at a time."""

    async def some() -> None:
        for _ in range(REQUESTS // 16):
            async with session.post(url, data=b"{}") as response:
                await response.read()

    started = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(16)))
    return REQUESTS // 16 * 16 / (time.perf_counter() - started)


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(500):
        try:
            async with session.post(url, data=b"{}"):
                return
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)
    raise RuntimeError("the function that does nothing did not start")


CHILD = """
import json, sys
for line in sys.stdin.buffer:
    request = json.loads(line)
    scope = dict(request["input"])
    exec(request["code"], scope)
    sys.stdout.buffer.write(json.dumps(scope["result"]).encode() + b"\\n")
    sys.stdout.buffer.flush()
"""


def _python_call(bench: Bench) -> Result:
    """ms to have a warm Python process run a line of code, over pipes, blocking; and to start a cold one."""
    child = subprocess.Popen([sys.executable, "-I", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    request = json.dumps({"code": "result = {'n': n + 1}", "input": {"n": 1}}).encode() + b"\n"
    stdin, stdout = child.stdin, child.stdout

    def call() -> None:
        stdin.write(request)
        stdin.flush()
        stdout.readline()

    try:
        times = _times(call, CALLS)
    finally:
        stdin.close()
        child.wait()
    cold = _times(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), 10)
    return Result("floor.python", median(times), "ms", extra={"cold_ms": median(cold)})


async def _pool_call(bench: Bench) -> Result:
    """ms of the same through the worker's own pool, by itself."""
    pool = PythonPool(1, 2048, bench.layout.scratch)
    try:
        times = await _call_times(pool, CALLS, PURE)
    finally:
        await pool.close()
    return Result("floor.pool", median(times), "ms")


async def _fork(bench: Bench) -> Result:
    """CPU ms of a call in a child of its own, with the fork and the end of the child; and ms of such a call, when a
    child is ready."""
    pool = PythonPool(1, 2048, bench.layout.scratch)
    try:
        await _call_times(pool, 1, IMPURE)
        zygote = psutil.Process(pool.pids[0]).parent()
        assert zygote is not None
        before = _cpu_ms(zygote)
        await _call_times(pool, FORKS, IMPURE)
        spent = _cpu_ms(zygote) - before
        ready = []
        for _ in range(FORKS // 10):
            # until what is forked ahead is there
            await asyncio.sleep(0.02)
            ready += await _call_times(pool, 1, IMPURE)
    finally:
        await pool.close()
    return Result("floor.fork", spent / FORKS, "ms", extra={"ready_ms": median(ready)})


async def _call_times(pool: PythonPool, count: int, code: str) -> list[float]:
    """ms of each."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await pool.run(code, {"n": 1})
        times.append(1000 * (time.perf_counter() - started))
    return times


def _cpu_ms(zygote: psutil.Process) -> float:
    """Of it, and of its children that have ended, in steps of 10 ms."""
    times = zygote.cpu_times()
    return 1000 * float(times.user + times.system + times.children_user + times.children_system)


def _times(call: Callable[[], object], count: int) -> list[float]:
    """ms of each call, after some to warm up."""
    for _ in range(max(1, count // 20)):
        call()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return times


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
