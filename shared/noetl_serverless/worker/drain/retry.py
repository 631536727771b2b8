"""When a failed report is sent again, and when the report itself is taken to be the cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ...errors import Problem, Unavailable

FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 2.0
# the report may have made the control plane or its host fail; 503 and 429 concern the control plane alone
FAULT_STATUSES = frozenset({500, 502, 504})


@dataclass(slots=True)
class Retry:
    """All times are those of the loop's clock. `since`: when it was first sent."""

    since: float
    due: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    # a try may have taken effect although its answer was lost
    doubtful: bool = False
    # to be sent in a report of its own
    separate_report: bool = False

    def postpone(self, now: float) -> None:
        self.due = now + self.pause
        self.pause = min(2 * self.pause, MAX_PAUSE_SECONDS)


class NextTry(Enum):
    """What happens after a report has failed."""

    # the leases expire, and other workers run the commands again
    NONE = "none"
    LATER = "later"
    # in smaller reports: one of the outcomes may be the cause
    DIVIDED = "divided"


def next_try(retry: Retry, problem: Problem, *, time_left: float, answered_at: float) -> NextTry:
    """The control plane did not answer, or its answer says nothing about the outcomes; it last answered any call at
    `answered_at`. `time_left`: in seconds, until the worker has to stop."""
    retry.doubtful |= bool(problem.extra.get("doubtful"))
    if not isinstance(problem, Unavailable) or time_left <= retry.pause:
        return NextTry.NONE
    return NextTry.DIVIDED if is_report_at_fault(problem, retry.since, answered_at) else NextTry.LATER


def is_report_at_fault(problem: Problem, since: float, answered: float) -> bool:
    """Whether the cause is this report rather than the control plane, which last answered any call at `answered`."""
    return problem.extra.get("answered") in FAULT_STATUSES or answered > since
