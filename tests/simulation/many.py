"""Many seeds, in a few processes."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .playbooks import SHARE
from .seeds import run_seed

# seeds that one task of a process takes: whole books, for what is compiled for one is used again
CHUNK = SHARE * 8


@dataclass(slots=True)
class Total:
    seeds: int = 0
    events: int = 0
    executions: int = 0
    strikes: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    # (seed, rule, detail)
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Total) -> None:
        self.seeds += other.seeds
        self.events += other.events
        self.executions += other.executions
        self.strikes += other.strikes
        self.seen += other.seen
        self.failures += other.failures

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
            total.failures.append((seed, "the simulation itself failed", f"{type(error).__name__}: {error}"))
            continue
        total.seeds += 1
        total.events += verdict.events
        total.executions += verdict.executions
        total.strikes += verdict.strikes
        total.seen.update(verdict.seen)
        if verdict.fault is not None:
            total.failures.append((seed, verdict.fault.rule, verdict.fault.detail))
    gc.collect()
    return total


def run_many(
    start: int, count: int, jobs: int = 2, *, minutes: float | None = None, progress: bool = False, most: int = 20
) -> Total:
    """Stops early after `most` failures, or when the time is over."""
    total = Total()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for part in _parts(start, count, jobs):
        total.add(part)
        if progress:
            print(f"\r{total.seeds} seeds, {len(total.failures)} failures ", end="", file=sys.stderr, flush=True)
        if len(total.failures) >= most or (deadline is not None and time.monotonic() > deadline):
            break
    if progress:
        print(file=sys.stderr)
    total.failures.sort()
    return total


def _parts(start: int, count: int, jobs: int) -> Iterator[Total]:
    chunks = [range(first, min(first + CHUNK, start + count)) for first in range(start, start + count, CHUNK)]
    if jobs < 2:
        yield from map(run_chunk, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(run_chunk, chunks)
