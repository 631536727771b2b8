"""The result of a run of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...protocol import ChildRequest, WaitRequest

if TYPE_CHECKING:
    from .collected import Collected


@dataclass(slots=True)
class TaskResult:
    """How the run ended. deferred: continue from `resume` after `delay`; parked: continue once `child`, or `wait`, has
    ended."""

    status: Literal["ok", "error", "deferred", "parked"]
    data: Any = None
    # names that belong to `data`, which is an object then, with what was accumulated under them
    collected: Mapping[str, Collected] = field(default_factory=dict)
    # references to parts that were stored, and are needed as long as the result is
    parts: list[dict[str, Any]] = field(default_factory=list)
    # of a loop's collection: its items
    count: int | None = None
    ref: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    delay: float | None = None
    resume: dict[str, Any] | None = None
    child: ChildRequest | None = None
    wait: WaitRequest | None = None
