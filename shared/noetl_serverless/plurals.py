"""Numbers with nouns."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 execution`, `2 executions`; `plural` if an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
