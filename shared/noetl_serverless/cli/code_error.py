"""Text lines about an error of a step's Python code: its place in the code, and the end of the traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# lines of a traceback that are shown
MAX_LINES = 8


def code_error_lines(found: Mapping[str, Any] | None) -> Iterator[str]:
    """`found`: {exception, traceback, line}, as the envelope has it under `py`; None if there was no such error."""
    traceback = str((found or {}).get("traceback") or "").rstrip().splitlines()
    if not found or not traceback:
        return
    line = found.get("line")
    yield f"in line {line} of the code:" if line else "in the code:"
    if len(traceback) > MAX_LINES:
        yield "  ..."
    for text in traceback[-MAX_LINES:]:
        # the file of the code has no name
        text = text.replace('File "<code>", line', "line")
        yield f"  {text}"
