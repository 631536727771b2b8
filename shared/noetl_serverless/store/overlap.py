"""What becomes of a run that is due while an earlier run of its schedule still runs: pure.

A run of a backfill waits for its turn under each policy but `allow`: it is never skipped, and cancels nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

OverlapPolicy = Literal["allow", "skip", "queue", "cancel_running"]


@dataclass(kw_only=True, frozen=True, slots=True)
class Overlap:
    """What the schedule's other runs do. `running`: executions of earlier runs; `waiting_due_at`: of a regular run that
    waits; `newer_due_at`: of a later run that is due, too."""

    policy: OverlapPolicy = "allow"
    running: tuple[str, ...] = ()
    waiting_due_at: datetime | None = None
    newer_due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start it, after `cancels` were cancelled."""

    cancels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Until no other run runs."""


NO_OVERLAP = Overlap()


def decide(overlap: Overlap, backfill: bool) -> Start | Skip | Wait:
    if overlap.policy == "allow":
        return Start()
    if backfill:
        return Wait() if overlap.running else Start()
    if overlap.policy == "cancel_running":
        if overlap.newer_due_at is not None:
            return Skip(f"a later run, due at {text(overlap.newer_due_at)}, starts instead")
        return Start(overlap.running)
    if not overlap.running:
        return Start()
    if overlap.policy == "skip":
        return Skip(f"execution {overlap.running[0]} of an earlier run was still running")
    if overlap.waiting_due_at is not None:
        return Skip(f"a run due at {text(overlap.waiting_due_at)} was already waiting")
    return Wait()


def text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
