"""Upgrade a store that release N-1 has left, with everything under way; exit status 1 on any finding."""

from __future__ import annotations

import argparse
import sys
import time

from .bed import bed
from .release import OLD, new_release, old_release
from .walk import Walk

# findings of one kind to be shown
MOST = 5


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
    by_rule: dict[str, list[str]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(str(finding))
    for lines in by_rule.values():
        print(*lines[:MOST], *([f"... and {len(lines) - MOST} more"] if len(lines) > MOST else []), sep="\n")
    say(f"{len(walk.given)} executions over {OLD} and the working tree, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
