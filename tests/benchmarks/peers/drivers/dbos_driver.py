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

from .measure import LONGEST_RUN, blob, check, fib
from .workloads import measure_all

# seconds between two looks at a result; the library's own is 1
POLL = 0.01
# parallel steps of one workflow at a time: as many as our loop has in flight
WINDOW = 500


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


class Library:
    def chain(self, length: int) -> float:
        return self._run(chain, length, expected={"i": length - 1})

    def chains(self, count: int, length: int) -> float:
        started = time.perf_counter()
        handles = [DBOS.start_workflow(chain, length) for _ in range(count)]
        for handle in handles:
            handle.get_result(polling_interval_sec=POLL)
        return time.perf_counter() - started

    def fibs(self, n: int, count: int) -> float:
        return self._run(fibs, n, count, expected=True)

    def fan_out(self, count: int) -> float:
        return self._run(fan_out, count, expected=count * (count - 1) // 2)

    def history(self, length: int) -> float:
        return self.chain(length)

    def payload(self, mb: int) -> float:
        return self._run(payload, mb, expected=mb * 1_000_000)

    def _run(self, workflow: Callable[..., Any], *arguments: Any, expected: Any) -> float:
        """Seconds of one run."""
        started = time.perf_counter()
        handle = DBOS.start_workflow(workflow, *arguments)
        while handle.get_status().status not in ("SUCCESS", "ERROR", "CANCELLED") and workflow is fan_out:
            if time.perf_counter() - started > LONGEST_RUN:
                raise TimeoutError(f"it has not ended after {LONGEST_RUN:g} s")
            time.sleep(POLL)
        found = handle.get_result(polling_interval_sec=POLL)
        taken = time.perf_counter() - started
        check(found, expected)
        return taken


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
    library = Library()
    for _ in range(10):
        library.chain(5)
    measure_all(library)
    # threads of runs that were given up would keep the process
    os._exit(0)


if __name__ == "__main__":
    main()
