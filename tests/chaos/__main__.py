"""Break the real stack at random from a seed while it works, and audit it. Exit status 1 on any finding."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from .run import chaos
from .stack import chaos_stack


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults (default 5)")
    parser.add_argument("--seed", type=int, help="of the faults and the work; drawn if it is not given")
    parser.add_argument("--rate", type=float, default=6.0, help="executions started in a second (default 6)")
    parser.add_argument("--instances", type=int, default=3, help="of each function (default 3)")
    parser.add_argument("--processes", choices=("separate", "together"), default="separate")
    parser.add_argument("--one-clock", action="store_true", help="no clocks that differ")
    parser.add_argument("--report", type=Path, default=Path("build/chaos"), help="folder of chaos.json and chaos.md")
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    given = parser.parse_args()
    seed = secrets.randbelow(2**32) if given.seed is None else given.seed
    command = (
        f"python -m tests.chaos --minutes {given.minutes:g} --seed {seed} --rate {given.rate:g} "
        f"--instances {given.instances} --processes {given.processes}{' --one-clock' if given.one_clock else ''}"
    )
    with chaos_stack(
        given.keep, instances=given.instances, processes=given.processes, skewed=not given.one_clock
    ) as stack:
        if not given.one_clock and stack.library is None:
            _say("there is no libfaketime here: all clocks are the machine's")
        report = chaos(stack, seed, 60 * given.minutes, rate=given.rate, command=command, say=_say)
    report.write(given.report)
    print(report.markdown())
    print(f"written to {given.report}/chaos.json and chaos.md")
    return 1 if report.findings else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
