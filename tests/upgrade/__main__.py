"""Upgrade a store that release N-1 has left, with everything under way; exit status 1 on any finding."""

from __future__ import annotations

import argparse
import sys
import time

from .bed import bed
from .release import OLD, new_release, old_release
from .walk import Walk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder, with the logs of all functions")
    given = parser.parse_args()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    with bed(given.keep) as made:
        if given.keep:
            say(f"in {made.home}")
        walk = Walk(made, old_release(made.home), new_release(made.home), say=say)
        findings = walk.run()
    for finding in findings:
        print(finding)
    say(f"{len(walk.given)} executions over {OLD} and the working tree, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
