"""The lines that were changed since a revision."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict

from .tree import Layout

_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def changed_lines(layout: Layout, base: str) -> dict[str, set[int]]:
    """Of the files as they are now, committed or not; a file that git does not know yet is new as a whole."""
    command = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/", base]
    output = subprocess.run(command, cwd=layout.root, check=True, capture_output=True, text=True).stdout
    lines: defaultdict[str, set[int]] = defaultdict(set)
    file = None
    for line in output.splitlines():
        if line.startswith("+++ "):
            file = line[6:] if line.startswith("+++ b/") else None
        elif file and (hunk := _HUNK.match(line)):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            lines[file] |= set(range(first, first + count))
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    new = subprocess.run(command, cwd=layout.root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, new.split("\0")):
        if name.endswith(".py"):
            lines[name] |= set(range(1, (layout.root / name).read_text().count("\n") + 2))
    return lines
