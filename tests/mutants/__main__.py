"""Plant faults in copies of the tree, one at a time, and report those that no test detects.

Exit status 1 if more than a tenth survive in the engine, the orchestrator, the store or the worker, if one survives
that affects a fence, a lease, a rollback, a role, a redirect or a mask, or if one of the table survives.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

from .run import UnknownPackage, Wanted, run
from .tree import Layout

ROOT = Path(__file__).parents[2]


def main() -> int:
    given = _arguments()
    command = f"python -m tests.mutants {shlex.join(sys.argv[1:])}".strip()
    wanted = Wanted(
        packages=tuple(given.packages),
        generated=0 if given.planted else given.sample,
        planted=not given.generated,
        seed=given.seed,
        base=given.base,
        jobs=given.jobs,
        budget=given.budget,
    )
    if given.tests:
        wanted = replace(wanted, tests=tuple(given.tests))
    # ended from outside, it still clears its copies away
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = run(Layout(ROOT), wanted, ROOT / "build/mutants", command, _say)
    except UnknownPackage as error:
        print(error, file=sys.stderr)
        return 2
    report.write(given.report)
    print(report.markdown())
    print(f"written to {given.report}/report.md and report.json")
    return 1 if report.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--packages", nargs="*", default=[], help="of the product; all if none is named")
    parser.add_argument("--sample", type=int, default=200, help="generated faults for each package (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--base", help="only on lines that were changed since this revision")
    parser.add_argument("--jobs", type=int, default=2, help="copies at work at once (default 2)")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of tests for one fault (default 90)")
    parser.add_argument("--tests", nargs="*", help="folders or files of tests that may notice generated faults")
    parser.add_argument("--report", type=Path, default=ROOT / "build/mutants", help="folder of report.md, report.json")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--planted", action="store_true", help="only the table")
    only.add_argument("--generated", action="store_true", help="everything but the table")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
