"""The workloads, the same on every engine. Only the standard library, as in `measure`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Protocol

from .measure import (
    CHAINS,
    CONCURRENT_RUNS,
    FANOUTS,
    LONGEST_RUN,
    PAYLOADS,
    STARTS,
    Cpu,
    measure,
    median,
    percentile,
    report,
)

CONCURRENT = 200


class Engine(Protocol):
    """Each method returns the seconds that it took, and raises if a result is not as expected."""

    def chain(self, length: int) -> float: ...

    def chains(self, count: int, length: int) -> float:
        """All at once."""

    def fibs(self, n: int, count: int) -> float: ...

    def fan_out(self, count: int) -> float: ...

    def history(self, length: int) -> float: ...

    def payload(self, mb: int) -> float: ...


class AsyncEngine(Protocol):
    """Each method runs one execution to its end, and raises if its result is not as expected."""

    async def chain(self, length: int) -> None: ...

    async def fibs(self, n: int, count: int) -> None: ...

    async def fan_out(self, count: int) -> None: ...

    async def history(self, length: int) -> None: ...

    async def payload(self, mb: int) -> None: ...


class Awaited:
    """An asynchronous engine as an Engine."""

    def __init__(self, engine: AsyncEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    def chain(self, length: int) -> float:
        return self._seconds(self._engine.chain(length))

    def chains(self, count: int, length: int) -> float:
        async def at_once() -> None:
            await asyncio.gather(*(self._engine.chain(length) for _ in range(count)))

        return self._seconds(at_once())

    def fibs(self, n: int, count: int) -> float:
        return self._seconds(self._engine.fibs(n, count))

    def fan_out(self, count: int) -> float:
        return self._seconds(self._engine.fan_out(count))

    def history(self, length: int) -> float:
        return self._seconds(self._engine.history(length))

    def payload(self, mb: int) -> float:
        return self._seconds(self._engine.payload(mb))

    def _seconds(self, work: Awaitable[None]) -> float:
        async def within_limit() -> None:
            await asyncio.wait_for(work, LONGEST_RUN)

        started = time.perf_counter()
        self._loop.run_until_complete(within_limit())
        return time.perf_counter() - started


def measure_all(engine: Engine) -> None:
    def start() -> None:
        with Cpu() as cpu:
            times = [engine.chain(1) for _ in range(STARTS)]
        report("start", 1000 * median(times), "ms", p95=1000 * percentile(times, 0.95), cpu_ms=cpu.ms_per(STARTS))

    def chain() -> None:
        with Cpu() as cpu:
            times = [engine.chain(100) for _ in range(CHAINS)]
        report("chain100", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))

    def concurrent() -> None:
        with Cpu() as cpu:
            times = [engine.chains(CONCURRENT, 5) for _ in range(CONCURRENT_RUNS)]
        steps = 5 * CONCURRENT
        report("concurrent", steps / median(times), "steps/s", cpu_ms=cpu.ms_per(steps * CONCURRENT_RUNS))

    def fan_out(count: int, repeats: int) -> None:
        with Cpu() as cpu:
            times = [engine.fan_out(count) for _ in range(repeats)]
        report(f"fanout{count}", count / median(times), "items/s", cpu_ms=cpu.ms_per(count * repeats))

    def history() -> None:
        with Cpu() as cpu:
            taken = engine.history(2000)
        report("history2000", taken / 2, "ms/step", cpu_ms=cpu.ms_per(2000))

    def fibs(n: int, count: int, repeats: int) -> None:
        report(f"fib{n}", median([engine.fibs(n, count) for _ in range(repeats)]), "s")

    def payload(mb: int, repeats: int) -> None:
        report(f"payload{mb}", median([engine.payload(mb) for _ in range(repeats)]), "s")

    measure(
        {
            "start": start,
            "chain100": chain,
            "concurrent": concurrent,
            "fanout1000": lambda: fan_out(1000, FANOUTS),
            "history2000": history,
            "fib10": lambda: fibs(10, 40, CHAINS),
            "fib33": lambda: fibs(33, 10, 1),
            "payload10": lambda: payload(10, PAYLOADS),
            "payload100": lambda: payload(100, 1),
            # last: an engine that fails at it may be left short of threads
            "fanout10000": lambda: fan_out(10000, 1),
        }
    )
