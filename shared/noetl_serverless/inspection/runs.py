"""How an ended command ran: how long it was queued, how long it ran, and which attempts failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(kw_only=True, frozen=True, slots=True)
class CommandRun:
    """Instants are milliseconds since 1970; unknown values are None.

    `queued_ms` is the time from the command's issue to its start in the worker that ended it, `run_ms` the time it ran
    there, and `waited_ms` the time it waited in between, for the next attempt or for its turn. `queued_ms` compares two
    clocks, and is only as accurate as they are.
    """

    worker: str | None
    started_at: int | None
    ended_at: int
    queued_ms: int | None
    run_ms: float | None
    waited_ms: float
    # attempts that failed, a loop item's with its index: [{attempt, task, index?, error, started_at, ended_at, worker}]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    # how many of them are not listed
    attempts_dropped: int = 0
    # earlier leases that expired or were released:
    # [{worker, delivery, claimed_at, lease_until, given_back_at?}]
    lost: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many attempts failed, including lost deliveries."""
        return len(self.attempts) + self.attempts_dropped + len(self.lost)


def started_at(meta: Any) -> int | None:
    """When it began in the worker that reported it, in ms, if known."""
    return _instant(meta.get("started_at")) if isinstance(meta, Mapping) else None


def run_of(meta: Any, at: int, issued_at: int | None) -> CommandRun:
    """The run as described by a report's `meta`; `at` is when the report was processed, in ms."""
    known: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
    started = started_at(known)
    ended = _instant(known.get("ended_at"))
    return CommandRun(
        worker=str(known["worker"]) if known.get("worker") else None,
        started_at=started,
        ended_at=at if ended is None else ended,
        queued_ms=None if started is None or issued_at is None else max(0, started - issued_at),
        run_ms=_number(known.get("duration_ms")),
        waited_ms=_number(known.get("waited_ms")) or 0.0,
        attempts=list(_entries(known.get("attempts"))),
        attempts_dropped=int(_number(known.get("attempts_dropped")) or 0),
        lost=list(_entries(known.get("lost"))),
    )


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict):
            yield entry


def _instant(value: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
