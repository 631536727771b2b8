"""absurd: functions in PostgreSQL, and one Python worker process with two queues, for runs and for their children.

PEERS_DATABASE_URL names an empty database, PEERS_ABSURD_SQL the project's sql/absurd.sql, which its package lacks.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd

from .measure import LONGEST_RUN, blob, check, fib, process, run_until_orphaned, until
from .workloads import measure_all

URL = os.environ["PEERS_DATABASE_URL"]
DIRECTORY = Path(os.environ["PEERS_DIR"])
# threads of each queue; they share one connection
CONCURRENCY = 20
# seconds between two looks of a worker at its queue, the library's own, and of the client at a result
WORKER_POLL = 0.25
POLL = 0.005


def register(app: Any, child: Any) -> None:
    @app.register_task(name="chain")
    def chain(params: Any, ctx: Any) -> Any:
        result = {"i": -1}
        for i in range(params["n"]):
            result = ctx.step(f"s{i}", lambda i=i: {"i": i})
        return result

    @app.register_task(name="fibs")
    def fibs(params: Any, ctx: Any) -> Any:
        for i in range(params["count"]):
            ctx.step(f"s{i}", lambda: {"v": fib(params["n"])})
        return True

    @app.register_task(name="payload")
    def payload(params: Any, ctx: Any) -> Any:
        made = ctx.step("make", lambda: blob(params["mb"]))
        return ctx.step("use", lambda: len(made))

    @app.register_task(name="fan_out")
    def fan_out(params: Any, ctx: Any) -> Any:
        """Children on another queue, because a task must not wait for one of its own; one checkpoint for all."""

        def spawn() -> list[str]:
            return [str(child.spawn("item", {"i": i}, queue="items")["task_id"]) for i in range(params["n"])]

        ids = ctx.step("spawn", spawn)

        def wait() -> int:
            return sum(child.await_task_result(id, queue_name="items").result["i"] for id in ids)

        return ctx.step("wait", wait)


def register_items(app: Any) -> None:
    @app.register_task(name="item")
    def item(params: Any, ctx: Any) -> Any:
        return ctx.step("s", lambda: {"i": params["i"]})


def serve() -> None:
    runs, items = Absurd(URL, queue_name="runs"), Absurd(URL, queue_name="items")
    register(runs, Absurd(URL, queue_name="items"))
    register_items(items)
    options = {"concurrency": CONCURRENCY, "poll_interval": WORKER_POLL, "claim_timeout": 600}
    for app in (items, runs):
        threading.Thread(target=app.start_worker, kwargs=options, daemon=True).start()
    run_until_orphaned()


class Queues:
    def __init__(self) -> None:
        self._app = Absurd(URL, queue_name="runs")
        for queue in ("runs", "items"):
            self._app.create_queue(queue)

    def _spawn(self, task: str, params: dict[str, Any]) -> Any:
        return self._app.spawn(task, params, queue="runs", max_attempts=1)["task_id"]

    def _wait(self, task_id: Any) -> Any:
        deadline = time.monotonic() + LONGEST_RUN
        while time.monotonic() < deadline:
            found = self._app.fetch_task_result(task_id, queue_name="runs")
            if found is not None and found.state in ("completed", "failed", "cancelled"):
                if found.state != "completed":
                    raise RuntimeError(f"the task has {found.state}: {str(found.failure)[:300]}")
                return found.result
            time.sleep(POLL)
        raise TimeoutError(f"it has not ended after {LONGEST_RUN:g} s")

    def chain(self, length: int) -> float:
        return self._run("chain", {"i": length - 1}, n=length)

    def chains(self, count: int, length: int) -> float:
        started = time.perf_counter()
        for task_id in [self._spawn("chain", {"n": length}) for _ in range(count)]:
            self._wait(task_id)
        return time.perf_counter() - started

    def fibs(self, n: int, count: int) -> float:
        return self._run("fibs", True, n=n, count=count)

    def fan_out(self, count: int) -> float:
        return self._run("fan_out", count * (count - 1) // 2, n=count)

    def history(self, length: int) -> float:
        return self.chain(length)

    def payload(self, mb: int) -> float:
        return self._run("payload", mb * 1_000_000, mb=mb)

    def _run(self, task: str, expected: Any, **params: Any) -> float:
        started = time.perf_counter()
        check(self._wait(self._spawn(task, params)), expected)
        return time.perf_counter() - started


def main() -> None:
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(Path(os.environ["PEERS_ABSURD_SQL"]).read_bytes())
    queues = Queues()
    module = "tests.benchmarks.peers.drivers.absurd_driver"
    with process([sys.executable, "-m", module, "--serve"], DIRECTORY / "absurd.log"):
        until(lambda: queues.chain(1) > 0, "the worker does not answer")
        for _ in range(5):
            queues.chain(5)
        measure_all(queues)


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
