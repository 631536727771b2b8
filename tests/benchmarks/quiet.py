"""Measuring on a machine that others use too: by how busy they are, never by the value that comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .stack import Bench
from .usage import Usage

T = TypeVar("T")

# how many cores others may use
QUIET = 0.25
LOOK = 1.0


@dataclass(slots=True)
class Measured(Generic[T]):
    """The runs that count: their values, what they cost together, and how many cores others used in each."""

    values: list[T]
    usage: Usage
    wal: int
    others: list[float] = field(default_factory=list)

    def extra(self, count: int, one: str) -> dict[str, Any]:
        """Costs per one of `count` things done in all these runs."""
        return {
            f"cpu_ms_per_{one}": self.usage.per(count),
            f"wal_bytes_per_{one}": self.wal / count,
            "others_cores": self.others,
        }


async def measure(bench: Bench, once: Callable[[], Awaitable[T]], runs: int | None = None) -> Measured[T]:
    """`runs` runs. With `--patience`, each waits for a quiet moment, and those during which others were busy are
    done again, until the patience is over; then the quietest ones count."""
    wanted = runs or bench.runs
    deadline = time.monotonic() + float(bench.options.get("patience") or 0)
    found: list[tuple[float, T, Usage, int]] = []
    while True:
        await _wait_for_quiet(bench, deadline)
        before, wal = bench.meter.read(), bench.wal()
        value = await once()
        usage = bench.meter.since(before)
        found.append((usage.others, value, usage, bench.wal() - wal))
        quiet = sum(others <= QUIET for others, *_ in found)
        if quiet >= wanted or (len(found) >= wanted and time.monotonic() > deadline):
            break
    chosen = sorted(range(len(found)), key=lambda index: (max(QUIET, found[index][0]), index))[:wanted]
    kept = [found[index] for index in sorted(chosen)]
    total = Usage(0.0)
    for _, _, usage, _ in kept:
        total.add(usage)
    return Measured([value for _, value, _, _ in kept], total, sum(wal for *_, wal in kept), [run[0] for run in kept])


async def _wait_for_quiet(bench: Bench, deadline: float) -> None:
    while time.monotonic() < deadline:
        before = bench.meter.read()
        await asyncio.sleep(LOOK)
        if bench.meter.since(before).others <= QUIET:
            return
