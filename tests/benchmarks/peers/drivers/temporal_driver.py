"""Temporal's development server with a SQLite file, one Python worker process, and a client that polls long."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .measure import (
    CHAINS,
    CONCURRENT_RUNS,
    LONGEST_RUN,
    STARTS,
    Cpu,
    blob,
    fib,
    free_port,
    measure,
    median,
    percentile,
    process,
    report,
    wait_for_port,
)

QUEUE = "bench"
LIMIT = timedelta(seconds=300)
DIRECTORY = Path(os.environ["PEERS_DIR"])
# pending activities of one workflow at a time: the server refuses more than 2,000
WINDOW = 500
CONCURRENT = 200
ACTIVITIES = 100


@activity.defn
async def trivial(i: int) -> dict[str, int]:
    return {"i": i}


@activity.defn
def fib_of(n: int) -> dict[str, int]:
    return {"v": fib(n)}


@activity.defn
async def make(mb: int) -> str:
    return blob(mb)


@activity.defn
async def use(made: str) -> int:
    return len(made)


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, n: int) -> dict[str, int]:
        result = {"i": -1}
        for i in range(n):
            result = await workflow.execute_activity(trivial, i, start_to_close_timeout=LIMIT)
        return result


@workflow.defn
class FanOut:
    @workflow.run
    async def run(self, n: int) -> int:
        window = asyncio.Semaphore(WINDOW)

        async def one(i: int) -> int:
            async with window:
                return (await workflow.execute_activity(trivial, i, start_to_close_timeout=LIMIT))["i"]

        return sum(await asyncio.gather(*(one(i) for i in range(n))))


@workflow.defn
class Fibs:
    @workflow.run
    async def run(self, n: int, count: int) -> int:
        for _ in range(count):
            await workflow.execute_activity(fib_of, n, start_to_close_timeout=LIMIT)
        return count


@workflow.defn
class Payload:
    @workflow.run
    async def run(self, mb: int) -> int:
        once = RetryPolicy(maximum_attempts=1)
        made = await workflow.execute_activity(make, mb, start_to_close_timeout=LIMIT, retry_policy=once)
        return await workflow.execute_activity(use, made, start_to_close_timeout=LIMIT, retry_policy=once)


async def serve(address: str) -> None:
    client = await Client.connect(address)
    with ThreadPoolExecutor(ACTIVITIES) as threads:
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[Chain, FanOut, Fibs, Payload],
            activities=[trivial, fib_of, make, use],
            activity_executor=threads,
            max_concurrent_activities=ACTIVITIES,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with worker:
            while os.getppid() != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.5)


def measure_all(client: Client, loop: asyncio.AbstractEventLoop) -> None:
    async def run(of: Callable[..., Any], *arguments: Any, expected: Any = None) -> None:
        limit = timedelta(seconds=LONGEST_RUN)
        options: dict[str, Any] = {"args": list(arguments), "id": uuid.uuid4().hex, "task_queue": QUEUE}
        found = await client.execute_workflow(of, execution_timeout=limit, **options)
        if expected is not None and found != expected:
            raise RuntimeError(f"the result is {str(found)[:200]}, not {expected}")

    def seconds(work: Callable[[], Awaitable[Any]]) -> float:
        started = time.perf_counter()
        loop.run_until_complete(_awaited(work()))
        return time.perf_counter() - started

    def several(times: int, of: Callable[..., Any], *arguments: Any, expected: Any = None) -> list[float]:
        return [seconds(lambda: run(of, *arguments, expected=expected)) for _ in range(times)]

    def start() -> None:
        with Cpu() as cpu:
            times = several(STARTS, Chain.run, 1)
        report("start", 1000 * median(times), "ms", p95=1000 * percentile(times, 0.95), cpu_ms=cpu.ms_per(STARTS))

    def chain() -> None:
        with Cpu() as cpu:
            times = several(CHAINS, Chain.run, 100, expected={"i": 99})
        report("chain100", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))

    def concurrent() -> None:
        async def at_once() -> None:
            await asyncio.gather(*(run(Chain.run, 5) for _ in range(CONCURRENT)))

        with Cpu() as cpu:
            times = [seconds(at_once) for _ in range(CONCURRENT_RUNS)]
        steps = 5 * CONCURRENT
        report("concurrent", steps / median(times), "steps/s", cpu_ms=cpu.ms_per(steps * CONCURRENT_RUNS))

    def fan_out(count: int) -> None:
        with Cpu() as cpu:
            (taken,) = several(1, FanOut.run, count, expected=count * (count - 1) // 2)
        report(f"fanout{count}", count / taken, "items/s", cpu_ms=cpu.ms_per(count))

    def history() -> None:
        with Cpu() as cpu:
            (taken,) = several(1, Chain.run, 2000, expected={"i": 1999})
        report("history2000", taken / 2, "ms/step", cpu_ms=cpu.ms_per(2000))

    measure(
        {
            "start": start,
            "chain100": chain,
            "concurrent": concurrent,
            "fanout1000": lambda: fan_out(1000),
            "fanout10000": lambda: fan_out(10000),
            "history2000": history,
            "fib10": lambda: report("fib10", median(several(3, Fibs.run, 10, 40)), "s"),
            "fib33": lambda: report("fib33", several(1, Fibs.run, 33, 10)[0], "s"),
            "payload10": lambda: report("payload10", several(1, Payload.run, 10)[0], "s"),
        }
    )


async def _awaited(work: Awaitable[Any]) -> None:
    await work


def main() -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    program = Path(sys.executable).with_name("temporal")
    server = [
        *(program, "server", "start-dev", "--ip", "127.0.0.1", "--port", port, "--headless"),
        *("--http-port", free_port(), "--metrics-port", free_port()),
        *("--db-filename", DIRECTORY / "temporal.db", "--log-level", "error"),
    ]
    module = "tests.benchmarks.peers.drivers.temporal_driver"
    with process(server, DIRECTORY / "temporal.log", {**os.environ, "HOME": str(DIRECTORY)}):
        wait_for_port(port)
        with process([sys.executable, "-m", module, "--serve", address], DIRECTORY / "temporal-worker.log"):
            loop = asyncio.new_event_loop()
            client = loop.run_until_complete(_connected(address))
            for _ in range(5):
                options: dict[str, Any] = {"id": uuid.uuid4().hex, "task_queue": QUEUE}
                loop.run_until_complete(client.execute_workflow(Chain.run, 5, **options))
            measure_all(client, loop)


async def _connected(address: str) -> Client:
    for _ in range(100):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.2)
    raise TimeoutError("Temporal's development server does not answer")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2])) if "--serve" in sys.argv else main()
