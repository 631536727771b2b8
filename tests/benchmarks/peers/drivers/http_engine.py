"""The workloads of engines whose runs are started and awaited with one HTTP request, all with the same client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import aiohttp

from .measure import (
    CHAINS,
    CONCURRENT_RUNS,
    FANOUTS,
    LONGEST_RUN,
    STARTS,
    Cpu,
    measure,
    median,
    percentile,
    report,
)

CONCURRENT = 200


class Engine(Protocol):
    """Each method runs one execution to its end, and raises if it is not as expected."""

    async def chain(self, length: int) -> None: ...

    async def fibs(self, n: int, count: int) -> None: ...

    async def fan_out(self, count: int) -> None: ...

    async def history(self, length: int) -> None: ...

    async def payload(self, mb: int) -> None: ...


def session(headers: dict[str, str] | None = None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=2 * CONCURRENT, keepalive_timeout=60.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=LONGEST_RUN),
    )


async def post(client: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with client.post(url, json=body) as response:
        if response.status >= 400:
            raise RuntimeError(f"{response.status} {(await response.text())[:400]}")
        return await response.json(content_type=None)


def measure_all(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
    def seconds(work: Callable[[], Awaitable[None]]) -> float:
        started = time.perf_counter()
        loop.run_until_complete(_of(work()))
        return time.perf_counter() - started

    def several(work: Callable[[], Awaitable[None]], times: int) -> list[float]:
        return [seconds(work) for _ in range(times)]

    def start() -> None:
        with Cpu() as cpu:
            times = several(lambda: engine.chain(1), STARTS)
        report("start", 1000 * median(times), "ms", p95=1000 * percentile(times, 0.95), cpu_ms=cpu.ms_per(STARTS))

    def chain() -> None:
        with Cpu() as cpu:
            times = several(lambda: engine.chain(100), CHAINS)
        report("chain100", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))

    def concurrent() -> None:
        async def at_once() -> None:
            await asyncio.gather(*(engine.chain(5) for _ in range(CONCURRENT)))

        with Cpu() as cpu:
            times = several(at_once, CONCURRENT_RUNS)
        steps = 5 * CONCURRENT
        report("concurrent", steps / median(times), "steps/s", cpu_ms=cpu.ms_per(steps * CONCURRENT_RUNS))

    def fan_out(count: int, times: int) -> None:
        with Cpu() as cpu:
            found = several(lambda: engine.fan_out(count), times)
        report(f"fanout{count}", count / median(found), "items/s", cpu_ms=cpu.ms_per(count * times))

    def history() -> None:
        with Cpu() as cpu:
            taken = seconds(lambda: engine.history(2000))
        report("history2000", taken / 2, "ms/step", cpu_ms=cpu.ms_per(2000))

    measure(
        {
            "start": start,
            "chain100": chain,
            "concurrent": concurrent,
            "fanout1000": lambda: fan_out(1000, FANOUTS),
            "fanout10000": lambda: fan_out(10000, 1),
            "history2000": history,
            "fib10": lambda: report("fib10", median(several(lambda: engine.fibs(10, 40), CHAINS)), "s"),
            "fib33": lambda: report("fib33", seconds(lambda: engine.fibs(33, 10)), "s"),
            "payload10": lambda: report("payload10", median(several(lambda: engine.payload(10), 3)), "s"),
            "payload100": lambda: report("payload100", seconds(lambda: engine.payload(100)), "s"),
        }
    )


async def _of(work: Awaitable[None]) -> None:
    await asyncio.wait_for(_awaited(work), LONGEST_RUN)


async def _awaited(work: Awaitable[None]) -> None:
    await work
