"""Periods in quarantine, and when the facts that were kept there took effect.

The fact that could not be decided, and those that waited behind it, are appended once the execution continues: after
`execution.retried`, with the time at which they came. So they, and what follows from them, take effect later than `at`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine import events as e
from ..engine.events import Event

# the events that take an execution out of quarantine
EXIT_EVENTS = frozenset({e.RETRIED, e.CANCELLED, e.DROPPED})


@dataclass(slots=True)
class QuarantinePeriod:
    """Instants are ms since 1970. `seq` is of the event that began it, `left_seq` of the one that ended it, if any."""

    seq: int
    since: int
    left_seq: int | None = None
    until: int | None = None
    # the type of the event that ended it
    ended_by: str | None = None

    @property
    def ms(self) -> int:
        """How long it lasted; 0 if it has not ended."""
        return 0 if self.until is None else max(0, self.until - self.since)


class QuarantinePeriods:
    """The periods of one execution; `read` takes its events one by one, in the order of the log or in logical order."""

    def __init__(self) -> None:
        self.all: list[QuarantinePeriod] = []

    @property
    def current(self) -> QuarantinePeriod | None:
        """The period that has not ended."""
        return self.all[-1] if self.all and self.all[-1].left_seq is None else None

    def read(self, kind: str, seq: int, at: int, payload: Mapping[str, Any]) -> int:
        """When the event took effect, in ms: when it happened, or when the quarantine that kept it ended."""
        if kind == e.FAILED and e.QUARANTINED in payload:
            at = self.effective_at(at)
            self.all.append(QuarantinePeriod(seq, at))
            return at
        period = self.current
        if period is not None and kind in EXIT_EVENTS:
            period.left_seq, period.until, period.ended_by = seq, max(at, period.since), kind
        return self.effective_at(at)

    def effective_at(self, at: int) -> int:
        """When a fact that came `at`, and what follows from it, takes effect after all events read so far."""
        return max([at, *self._retry_times()])

    def queued_since(self, issued: int, started: int | None) -> int:
        """Since when a command waits for a worker; a retry of its execution makes an open command pending again."""
        if started is None:
            return issued
        return max([issued, *(retried_at for retried_at in self._retry_times() if retried_at <= started)])

    def _retry_times(self) -> list[int]:
        return [period.until for period in self.all if period.ended_by == e.RETRIED and period.until is not None]


class EffectiveTimes:
    """When the events of a log took effect."""

    def __init__(self, log: Iterable[Event]) -> None:
        """`log`: in logical order."""
        self._periods = QuarantinePeriods()
        self._at = {event.seq: self._periods.read(event.type, event.seq, event.at, event.payload) for event in log}

    @property
    def periods(self) -> list[QuarantinePeriod]:
        return self._periods.all

    def at(self, event: Event) -> int:
        """In ms."""
        return self._at[event.seq]

    def was_kept(self, event: Event) -> bool:
        """Whether it is a fact that was kept in quarantine."""
        return event.cause is None and self._at[event.seq] != event.at

    def queued_since(self, order: Event, started: int | None) -> int:
        """As `QuarantinePeriods.queued_since`, for the event that issued a command."""
        return self._periods.queued_since(self.at(order), started)
