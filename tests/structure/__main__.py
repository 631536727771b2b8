"""`python -m tests.structure`: what in the library and in tests/ is against the rules; exit status 1 if anything is."""

from __future__ import annotations

import sys

from .rules import findings


def main() -> int:
    found = findings()
    for finding in found:
        print(finding)
    print(f"structure: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
