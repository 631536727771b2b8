"""python -m tests.simulation --seeds N [--start S] [--jobs J] [--minutes M]: many seeds, the first failure made small;
with --controls, of worlds in which users also signal, pause and go on with what they have started.
python -m tests.simulation --seed X [--trace]: one seed."""

from __future__ import annotations

import argparse
import sys
import time

from .many import run_many
from .playbooks import CONTROLLED, SHARE
from .seeds import run_seed, trace_lines
from .shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--controls", action="store_true", help="of the worlds in which users do more")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so long")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="tell what happened, whether or not it failed")
    parser.add_argument("--whole", action="store_true", help="do not make a failing run small")
    given = parser.parse_args()
    if given.seed is not None:
        return one(given.seed, given.trace, given.whole)
    started = time.monotonic()
    first = given.start + (CONTROLLED * SHARE if given.controls else 0)
    total = run_many(first, given.seeds, given.jobs, minutes=given.minutes, progress=True)
    seconds = time.monotonic() - started
    print(total.report(seconds))
    for seed, rule, detail in total.failures[:5]:
        print(f"seed {seed}: {rule}: {detail[:500]}")
    if total.failures:
        return one(int(total.failures[0][0]), True, given.whole)
    return 0


def one(seed: int, trace: bool, whole: bool) -> int:
    verdict = run_seed(seed)
    if verdict.fault is not None and not whole:
        verdict, limits = shrink(verdict)
        print(f"seed {seed}, in order: {limits.in_order}, starts: {limits.starts}, {verdict.strikes} strikes left")
    if trace or verdict.fault is not None:
        print(trace_lines(verdict))
    print(f"seed {seed}: {verdict.fault or 'holds'} (digest {verdict.digest:08x})")
    if verdict.fault is not None:
        print(f"again: python -m tests.simulation --seed {seed}")
    return 1 if verdict.fault is not None else 0


if __name__ == "__main__":
    sys.exit(main())
