"""What every driver does around its workloads. Only the standard library: each driver runs in its engine's environment.

A driver prints one JSON line for each workload: {"workload", "value", "unit", ...}; `value` is null if the engine
refused or failed, with its words in `error`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# seconds that one run of a workload may take
LONGEST_RUN = 120.0
# repeats of the short workloads within one round
CHAINS = 5
STARTS = 50
CONCURRENT_RUNS = 3
FANOUTS = 3
PAYLOADS = 3
# seconds for a server to listen
START_SECONDS = 60.0


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def blob(mb: int) -> str:
    """mb * 10^6 characters that do not compress."""
    return base64.b64encode(os.urandom(mb * 750_000)).decode()


def report(workload: str, value: float | None, unit: str, **extra: Any) -> None:
    print(json.dumps({"workload": workload, "value": value, "unit": unit, **extra}), flush=True)


def wanted() -> set[str]:
    """The workloads that are asked for; all, if none is named."""
    return {name for name in os.environ.get("PEERS_WORKLOADS", "").split(",") if name}


def measure(workloads: Mapping[str, Callable[[], None]]) -> None:
    """Run those that are asked for. One that fails does not keep the others from running."""
    names = wanted()
    for name, workload in workloads.items():
        if names and name not in names:
            continue
        try:
            workload()
        except Exception as error:
            report(name, None, "", error=f"{type(error).__name__}: {error}"[:600])


def check(found: Any, expected: Any) -> None:
    """RuntimeError if an engine's result is not as expected."""
    if found != expected:
        raise RuntimeError(f"the result is {str(found)[:200]}, not {str(expected)[:200]}")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Cpu:
    """CPU seconds of the whole machine, with the client: keep it otherwise idle."""

    seconds = 0.0

    def __enter__(self) -> Cpu:
        self._before = _busy()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = _busy() - self._before

    def ms_per(self, count: int) -> float:
        return 1000 * self.seconds / count


def _busy() -> float:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(arguments: Sequence[object], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A child process, which is ended with this block; its pid."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
        )
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for_port(port: int) -> None:
    until(lambda: _listens(port), f"nothing listens on port {port}")


def until(condition: Callable[[], bool], failure: str, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def run_until_orphaned() -> None:
    """For a worker process: until whoever started it is gone."""
    while os.getppid() != 1:
        time.sleep(0.5)
    sys.exit(0)
