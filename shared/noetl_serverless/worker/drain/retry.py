"""When a report that the control plane failed at is sent again, and when it goes in parts or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Problem

FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 2.0
# the control plane, or what runs it, stumbled over the report: 503 and 429 speak of the control plane alone
FAULT_STATUSES = frozenset({500, 502, 504})


@dataclass(slots=True)
class Retry:
    """All times are those of the loop's clock. `since`: when it was first sent."""

    since: float
    due: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    # a try may have been carried out, and its answer lost
    doubtful: bool = False
    # it goes in a report of its own
    alone: bool = False

    def postpone(self, now: float) -> None:
        self.due = now + self.pause
        self.pause = min(2 * self.pause, MAX_PAUSE_SECONDS)


def is_report_at_fault(problem: Problem, since: float, answered: float) -> bool:
    """Whether what failed is rather this report than the control plane, which last answered something at `answered`."""
    return problem.extra.get("answered") in FAULT_STATUSES or answered > since
