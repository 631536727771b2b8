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
    process,
    report,
    run_until_orphaned,
    until,
)

URL = os.environ["PEERS_DATABASE_URL"]
DIRECTORY = Path(os.environ["PEERS_DIR"])
# threads of each queue; they share one connection
CONCURRENCY = 20
# seconds between two looks of a worker at its queue, the library's own, and of the client at a result
WORKER_POLL = 0.25
POLL = 0.005
CONCURRENT = 200


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


class Client:
    def __init__(self) -> None:
        self._app = Absurd(URL, queue_name="runs")
        for queue in ("runs", "items"):
            self._app.create_queue(queue)

    def spawn(self, task: str, params: dict[str, Any]) -> Any:
        return self._app.spawn(task, params, queue="runs", max_attempts=1)["task_id"]

    def wait(self, task_id: Any) -> Any:
        deadline = time.monotonic() + LONGEST_RUN
        while time.monotonic() < deadline:
            found = self._app.fetch_task_result(task_id, queue_name="runs")
            if found is not None and found.state in ("completed", "failed", "cancelled"):
                if found.state != "completed":
                    raise RuntimeError(f"the task has {found.state}: {str(found.failure)[:300]}")
                return found.result
            time.sleep(POLL)
        raise TimeoutError(f"it has not ended after {LONGEST_RUN:g} s")

    def run(self, task: str, expected: Any = None, **params: Any) -> float:
        started = time.perf_counter()
        found = self.wait(self.spawn(task, params))
        if expected is not None and found != expected:
            raise RuntimeError(f"the result is {str(found)[:200]}, not {expected}")
        return time.perf_counter() - started


def measure_all(client: Client) -> None:
    def start() -> None:
        with Cpu() as cpu:
            times = [client.run("chain", n=1) for _ in range(STARTS)]
        report("start", 1000 * median(times), "ms", p95=1000 * percentile(times, 0.95), cpu_ms=cpu.ms_per(STARTS))

    def chain() -> None:
        with Cpu() as cpu:
            times = [client.run("chain", {"i": 99}, n=100) for _ in range(CHAINS)]
        report("chain100", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))

    def concurrent() -> None:
        rates = []
        with Cpu() as cpu:
            for _ in range(CONCURRENT_RUNS):
                started = time.perf_counter()
                for task_id in [client.spawn("chain", {"n": 5}) for _ in range(CONCURRENT)]:
                    client.wait(task_id)
                rates.append(5 * CONCURRENT / (time.perf_counter() - started))
        report("concurrent", median(rates), "steps/s", cpu_ms=cpu.ms_per(5 * CONCURRENT * CONCURRENT_RUNS))

    def fan_out(count: int, times: int) -> None:
        with Cpu() as cpu:
            taken = [client.run("fan_out", count * (count - 1) // 2, n=count) for _ in range(times)]
        report(f"fanout{count}", count / median(taken), "items/s", cpu_ms=cpu.ms_per(count * times))

    def history() -> None:
        with Cpu() as cpu:
            taken = client.run("chain", {"i": 1999}, n=2000)
        report("history2000", taken / 2, "ms/step", cpu_ms=cpu.ms_per(2000))

    measure(
        {
            "start": start,
            "chain100": chain,
            "concurrent": concurrent,
            "fanout1000": lambda: fan_out(1000, FANOUTS),
            "fanout10000": lambda: fan_out(10000, 1),
            "history2000": history,
            "fib10": lambda: report("fib10", median([client.run("fibs", n=10, count=40) for _ in range(3)]), "s"),
            "fib33": lambda: report("fib33", client.run("fibs", n=33, count=10), "s"),
            "payload10": lambda: report("payload10", median([client.run("payload", mb=10) for _ in range(3)]), "s"),
            "payload100": lambda: report("payload100", client.run("payload", mb=100), "s"),
        }
    )


def main() -> None:
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(Path(os.environ["PEERS_ABSURD_SQL"]).read_bytes())
    client = Client()
    module = "tests.benchmarks.peers.drivers.absurd_driver"
    with process([sys.executable, "-m", module, "--serve"], DIRECTORY / "absurd.log"):
        until(lambda: client.run("chain", n=1) > 0, "the worker does not answer")
        for _ in range(5):
            client.run("chain", n=5)
        measure_all(client)


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
