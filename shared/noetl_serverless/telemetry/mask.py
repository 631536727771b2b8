"""What stands in place of a secret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MASK: Final = "***"


def masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with `***` in place of each span (start, end); spans that overlap have one together."""
    parts: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            parts += [text[at:start], MASK]
        at = max(at, end)
    return "".join([*parts, text[at:]])
