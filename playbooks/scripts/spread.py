"""The script of python_code.yaml: as it defines `main`, it can be tested by itself."""

from __future__ import annotations


def main(days: list[float]) -> float | None:
    return max(days) - min(days) if days else None
