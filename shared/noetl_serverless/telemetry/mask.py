"""What stands in place of a secret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MASK: Final = "***"


def masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with `***` in place of each span (start, end); spans that overlap or touch have one together."""
    parts: list[str] = []
    masked_to = -1
    for start, end in sorted(spans):
        if start > masked_to:
            parts += [text[max(masked_to, 0) : start], MASK]
        masked_to = max(masked_to, end)
    return "".join([*parts, text[max(masked_to, 0) :]])
