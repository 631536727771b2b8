"""Ids are derived, never random: the same decision always yields the same id."""

from __future__ import annotations

from hashlib import sha256

# 2024-01-01T00:00:00Z in milliseconds
EPOCH_MS = 1_704_067_200_000
LOW_BITS = 22


def command_id(step: str, generation: int, frame: int | None = None, attempt: int = 1, opening: bool = False) -> str:
    """A command's name within its execution: `step#generation[.open|.frame][@attempt]`."""
    part = ".open" if opening else "" if frame is None else f".{frame}"
    return f"{step}#{generation}{part}" + (f"@{attempt}" if attempt > 1 else "")


def without_attempt(command_id: str) -> str:
    """The name of the first attempt."""
    step, mark, run = command_id.rpartition("#")
    return f"{step}{mark}{run.partition('@')[0]}"


def execution_id(at_ms: int, seed: str) -> str:
    """A 63-bit id that sorts by time: milliseconds since 2024, then 22 bits of the seed's digest."""
    low = int.from_bytes(sha256(seed.encode()).digest()[:4], "big") >> (32 - LOW_BITS)
    return str((max(at_ms - EPOCH_MS, 0) << LOW_BITS) | low)


def started_at(execution_id: str) -> int:
    """When the execution was started, in milliseconds since 1970."""
    return (int(execution_id) >> LOW_BITS) + EPOCH_MS
