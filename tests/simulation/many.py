"""Many seeds, in a few processes. `python -m tests.simulation.many START COUNT EVERY`: the part of one of them."""

from __future__ import annotations

import gc
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .playbooks import SHARE
from .seeds import run_seed

# seeds that are told of at once: whole books, for what is compiled for one is used again
CHUNK = SHARE * 8
# how often it is told how far it has come
TELL = 1000
ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Total:
    seeds: int = 0
    events: int = 0
    executions: int = 0
    strikes: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    # [seed, rule, detail]
    failures: list[list[str]] = field(default_factory=list)

    def add(self, other: Total) -> None:
        self.seeds += other.seeds
        self.events += other.events
        self.executions += other.executions
        self.strikes += other.strikes
        self.see(other.seen)
        self.failures += other.failures

    def see(self, seen: Mapping[str, int]) -> None:
        for kind, count in seen.items():
            self.seen[kind] = self.seen.get(kind, 0) + count

    def report(self, seconds: float) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.seen.items()))
        return (
            f"{self.seeds} seeds in {seconds:.0f} s ({1000 * seconds / max(1, self.seeds):.1f} ms each): "
            f"{self.executions} executions, {self.events} events, {self.strikes} faults survived ({kinds}); "
            f"{len(self.failures)} failures"
        )


def run_chunk(seeds: range) -> Total:
    total = Total()
    for seed in seeds:
        try:
            verdict = run_seed(seed)
        except Exception as error:
            total.failures.append([str(seed), "the simulation itself failed", f"{type(error).__name__}: {error}"])
            continue
        total.seeds += 1
        total.events += verdict.events
        total.executions += verdict.executions
        total.strikes += verdict.strikes
        total.see(verdict.seen)
        if verdict.fault is not None:
            total.failures.append([str(seed), verdict.fault.rule, verdict.fault.detail])
    gc.collect()
    return total


def chunks(start: int, count: int) -> list[range]:
    return [range(first, min(first + CHUNK, start + count)) for first in range(start, start + count, CHUNK)]


def run_many(
    start: int, count: int, jobs: int = 2, *, minutes: float | None = None, progress: bool = False, most: int = 20
) -> Total:
    """Stops early after `most` failures, or when the time is over."""
    total = Total()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    parts = map(run_chunk, chunks(start, count)) if jobs < 2 else _parts(start, count, jobs)
    for part in parts:
        total.add(part)
        if progress:
            for seed, rule, detail in part.failures:
                print(f"seed {seed}: {rule}: {detail[:300]}", file=sys.stderr)
            if total.seeds // TELL != (total.seeds - part.seeds) // TELL:
                print(f"{total.seeds} seeds, {len(total.failures)} failures", file=sys.stderr, flush=True)
        if len(total.failures) >= most or (deadline is not None and time.monotonic() > deadline):
            break
    total.failures.sort(key=lambda failure: int(failure[0]))
    return total


def _parts(start: int, count: int, jobs: int) -> Iterator[Total]:
    output: queue.Queue[str | None] = queue.Queue()
    children = [_child(start, count, job, jobs) for job in range(jobs)]
    for child in children:
        threading.Thread(target=_listen, args=(child, output), daemon=True).start()
    try:
        left = len(children)
        while left:
            line = output.get()
            if line is None:
                left -= 1
            else:
                yield Total(**json.loads(line))
        if any(child.wait() for child in children):
            raise RuntimeError("a process of the simulation died")
    finally:
        for child in children:
            child.kill()
            child.wait()


def _child(start: int, count: int, job: int, jobs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.simulation.many", str(start), str(count), f"{job}/{jobs}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _listen(child: subprocess.Popen[str], output: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        output.put(line)
    output.put(None)


if __name__ == "__main__":
    place, of = (int(number) for number in sys.argv[3].split("/"))
    for seeds in chunks(int(sys.argv[1]), int(sys.argv[2]))[place::of]:
        print(json.dumps(asdict(run_chunk(seeds))), flush=True)
