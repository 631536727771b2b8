"""What a drain needs from its worker, and the requests that arrive at the worker during a drain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...ports import Notifier
from ...protocol import ClaimedCommand, Outcome
from ...results.unfinished import UnfinishedWrites
from ...settings import Settings
from ...telemetry.presence import Presence
from ..execution.background_write import BackgroundWrite
from ..execution.lease import Lease
from ..execution.time_budget import TimeBudget
from ..orchestrator import Orchestrator
from ..plans import PlanCache

Execute = Callable[[ClaimedCommand, TimeBudget, Lease, BackgroundWrite | None], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """`clock`: milliseconds since 1970."""

    worker_id: str
    settings: Settings
    orchestrator: Orchestrator
    notifier: Notifier
    plans: PlanCache
    execute: Execute
    unfinished: UnfinishedWrites
    clock: Callable[[], int]
    presence: Presence


class Requests:
    """`notified`: look for work again; `sweep`: also claim whatever is pending, because the bus may have lost it."""

    def __init__(self) -> None:
        self.notified = False
        self.sweep = False

    def take_notified(self) -> bool:
        """Whether the worker was notified since the last call."""
        notified, self.notified = self.notified, False
        return notified

    def take_sweep(self) -> bool:
        """Whether a sweep was requested since the last call."""
        sweep, self.sweep = self.sweep, False
        return sweep
