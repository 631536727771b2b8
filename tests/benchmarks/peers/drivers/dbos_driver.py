"""DBOS, a library: the client's own process runs the workflows, and PostgreSQL holds their state.

PEERS_DATABASE_URL names an empty database.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS

from .measure import (
    CHAINS,
    CONCURRENT_RUNS,
    FANOUTS,
    LONGEST_RUN,
    STARTS,
    Cpu,
    blob,
    fib,
    measure,
    median,
    percentile,
    report,
)

# seconds between two looks at a result; the library's own is 1
POLL = 0.01
# parallel steps of one workflow at a time: as many as our loop has in flight
WINDOW = 500
CONCURRENT = 200


@DBOS.step()
def trivial(i: int) -> dict[str, int]:
    return {"i": i}


@DBOS.step()
async def trivial_async(i: int) -> dict[str, int]:
    return {"i": i}


@DBOS.step()
def fib_of(n: int) -> dict[str, int]:
    return {"v": fib(n)}


@DBOS.step()
def make(mb: int) -> str:
    return blob(mb)


@DBOS.step()
def use(made: str) -> int:
    return len(made)


@DBOS.workflow()
def chain(n: int) -> dict[str, int]:
    result = {"i": -1}
    for i in range(n):
        result = trivial(i)
    return result


@DBOS.workflow()
def fibs(n: int, count: int) -> bool:
    for _ in range(count):
        fib_of(n)
    return True


@DBOS.workflow()
def payload(mb: int) -> int:
    return use(make(mb))


@DBOS.workflow()
async def fan_out(n: int) -> int:
    total = 0
    for begin in range(0, n, WINDOW):
        steps = (trivial_async(i) for i in range(begin, min(n, begin + WINDOW)))
        total += sum(done["i"] for done in await asyncio.gather(*steps))
    return total


def run(workflow: Callable[..., Any], *arguments: Any, expected: Any = None) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    handle = DBOS.start_workflow(workflow, *arguments)
    while handle.get_status().status not in ("SUCCESS", "ERROR", "CANCELLED") and workflow is fan_out:
        if time.perf_counter() - started > LONGEST_RUN:
            raise TimeoutError(f"it has not ended after {LONGEST_RUN:g} s")
        time.sleep(POLL)
    found = handle.get_result(polling_interval_sec=POLL)
    taken = time.perf_counter() - started
    if expected is not None and found != expected:
        raise RuntimeError(f"the result is {str(found)[:200]}, not {expected}")
    return taken


def start() -> None:
    with Cpu() as cpu:
        times = [run(chain, 1, expected={"i": 0}) for _ in range(STARTS)]
    report("start", 1000 * median(times), "ms", p95=1000 * percentile(times, 0.95), cpu_ms=cpu.ms_per(STARTS))


def chain100() -> None:
    with Cpu() as cpu:
        times = [run(chain, 100, expected={"i": 99}) for _ in range(CHAINS)]
    report("chain100", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))


def concurrent() -> None:
    rates = []
    with Cpu() as cpu:
        for _ in range(CONCURRENT_RUNS):
            started = time.perf_counter()
            handles = [DBOS.start_workflow(chain, 5) for _ in range(CONCURRENT)]
            for handle in handles:
                handle.get_result(polling_interval_sec=POLL)
            rates.append(5 * CONCURRENT / (time.perf_counter() - started))
    report("concurrent", median(rates), "steps/s", cpu_ms=cpu.ms_per(5 * CONCURRENT * CONCURRENT_RUNS))


def fan_outs(count: int, times: int) -> None:
    with Cpu() as cpu:
        taken = [run(fan_out, count, expected=count * (count - 1) // 2) for _ in range(times)]
    report(f"fanout{count}", count / median(taken), "items/s", cpu_ms=cpu.ms_per(count * times))


def history() -> None:
    with Cpu() as cpu:
        taken = run(chain, 2000, expected={"i": 1999})
    report("history2000", taken / 2, "ms/step", cpu_ms=cpu.ms_per(2000))


def main() -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ["PEERS_DATABASE_URL"],
            "run_admin_server": False,
            "application_version": "1",
            "executor_id": "bench",
            "console_log_level": "ERROR",
            "log_level": "ERROR",
            "sys_db_pool_size": 40,
        }
    )
    DBOS.launch()
    for _ in range(10):
        run(chain, 5)
    measure(
        {
            "start": start,
            "chain100": chain100,
            "concurrent": concurrent,
            "fanout1000": lambda: fan_outs(1000, FANOUTS),
            "history2000": history,
            "fib10": lambda: report("fib10", median([run(fibs, 10, 40) for _ in range(CHAINS)]), "s"),
            "fib33": lambda: report("fib33", run(fibs, 33, 10), "s"),
            "payload10": lambda: report("payload10", median([run(payload, 10) for _ in range(3)]), "s"),
            "payload100": lambda: report("payload100", run(payload, 100, expected=100_000_000), "s"),
            # last: a failure here leaves the process short of threads
            "fanout10000": lambda: fan_outs(10000, 1),
        }
    )
    # threads of runs that were given up would keep the process
    os._exit(0)


if __name__ == "__main__":
    main()
