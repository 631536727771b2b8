"""How a command went that has ended: for how long it was queued, for how long it ran, and which attempts failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(kw_only=True, frozen=True, slots=True)
class CommandRun:
    """Instants are milliseconds since 1970; what is not known is None.

    `queued_ms` is from the command's issue to its start in the worker that ended it, `run_ms` what ran then, and
    `waited_ms` what it waited between: for the next attempt, or its turn. The clocks of the two may differ, so that
    `queued_ms` is as good as they are.
    """

    worker: str | None
    started_at: int | None
    ended_at: int
    queued_ms: int | None
    run_ms: float | None
    waited_ms: float
    # attempts that failed, a loop item's with its index: [{attempt, task, index?, error, started_at, ended_at, worker}]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    # how many of them are not told one by one
    attempts_dropped: int = 0
    # who had it before, and let it run out or gave it back:
    # [{worker, delivery, claimed_at, lease_until, given_back_at?}]
    lost: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many attempts came to nothing, lost deliveries included."""
        return len(self.attempts) + self.attempts_dropped + len(self.lost)


def started_at(meta: Any) -> int | None:
    """When it began in the worker that reported it, in ms, if it is known."""
    return _instant(meta.get("started_at")) if isinstance(meta, Mapping) else None


def run_of(meta: Any, at: int, issued_at: int | None) -> CommandRun:
    """Of what a report knows of its run; `at` is when it was taken in, in ms."""
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
