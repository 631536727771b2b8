"""Hold a stack at 80 % of its peak and see that nothing grows that should not. Exit status 1 if something does."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.stack import Bench, stack
from tests.benchmarks.usage import machine

from .growth import growth
from .report import Report
from .sample import Sampler, bound_of, sampler
from .work import Rising, Work

SHARE = 0.8
PEAK_SECONDS = 25.0
# of the time, while caches fill and PostgreSQL vacuums for the first time
WARM_UP = 0.2
SAMPLES = 150
SHORTEST_PAUSE = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load (default 10)")
    parser.add_argument("--report", type=Path, default=Path("build/load"), help="folder of load.json and load.md")
    given = parser.parse_args()
    report = asyncio.run(_run(given.minutes))
    report.write(given.report)
    print(report.markdown())
    print(f"written to {given.report}/load.json and load.md")
    return 1 if report.findings else 0


async def _run(minutes: float) -> Report:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(f"python -m tests.load --minutes {minutes:g}", at, machine(), minutes)
    async with stack(1, {}) as bench:
        try:
            await _load(bench, report)
        except Rising as error:
            report.wrong.append(str(error))
    return report


async def _load(bench: Bench, report: Report) -> None:
    seconds = 60 * report.minutes
    work = Work(bench)
    await work.register()
    report.peak = await work.peak(PEAK_SECONDS)
    report.rate = SHARE * report.peak
    _say(f"peak {report.peak:.1f} executions/s; holding {report.rate:.1f}/s for {report.minutes:g} minutes")
    before = bench.meter.read()
    async with sampler(bench, max(SHORTEST_PAUSE, seconds / SAMPLES)) as looking:
        watching = asyncio.create_task(_watch(looking, report, seconds))
        await asyncio.gather(work.hold(report.rate, seconds), watching)
    report.others = bench.meter.since(before).others
    await work.drain()
    report.executions = len(work.started)
    report.events = int(report.samples[-1]["events"])
    report.wrong = work.wrong()
    warm = [sample for sample in report.samples if sample["at"] > WARM_UP * seconds]
    for name in sorted({name for sample in warm for name in sample} - {"at", "events"}):
        values = [sample[name] for sample in warm if name in sample]
        # what has come up late has no first third
        if len(values) > len(warm) / 2:
            report.growths.append(growth(name, values, bound_of(name)))


async def _watch(looking: Sampler, report: Report, seconds: float) -> None:
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        sample = {"at": at, **await looking.sample()}
        report.samples.append(sample)
        if len(report.samples) % 10 == 0:
            _say(f"{at:6.0f} s  {sample['executions that run']:.0f} run, {sample['events']:.0f} events")
        await asyncio.sleep(looking.seconds)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
