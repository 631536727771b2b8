"""Temporal's development server with a SQLite file, one Python worker process, and a client that polls long."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .measure import LONGEST_RUN, blob, check, fib, free_port, process, wait_for_port
from .workloads import Awaited, measure_all

QUEUE = "bench"
LIMIT = timedelta(seconds=300)
DIRECTORY = Path(os.environ["PEERS_DIR"])
# pending activities of one workflow at a time: the server refuses more than 2,000
WINDOW = 500
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


class Temporal:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def chain(self, length: int) -> None:
        check(await self._run(Chain.run, length), {"i": length - 1})

    async def fibs(self, n: int, count: int) -> None:
        check(await self._run(Fibs.run, n, count), count)

    async def fan_out(self, count: int) -> None:
        check(await self._run(FanOut.run, count), count * (count - 1) // 2)

    async def history(self, length: int) -> None:
        await self.chain(length)

    async def payload(self, mb: int) -> None:
        check(await self._run(Payload.run, mb), mb * 1_000_000)

    async def _run(self, of: Callable[..., Any], *arguments: Any) -> Any:
        limit = timedelta(seconds=LONGEST_RUN)
        options: dict[str, Any] = {"args": list(arguments), "id": uuid.uuid4().hex, "task_queue": QUEUE}
        return await self._client.execute_workflow(of, execution_timeout=limit, **options)


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
            engine = Awaited(Temporal(loop.run_until_complete(_connected(address))), loop)
            for _ in range(5):
                engine.chain(5)
            measure_all(engine)


async def _connected(address: str) -> Client:
    for _ in range(100):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.2)
    raise TimeoutError("Temporal's development server does not answer")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2])) if "--serve" in sys.argv else main()
