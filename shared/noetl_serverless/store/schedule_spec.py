"""When a schedule is due: pure functions of its spec and an instant. All instants are aware and in UTC.

A cron line is read in its time zone. When clocks go forward, a time that does not exist is due at
the instant of the change, and one that recurs by the hour passes over the gap. When clocks go back, a fixed time is
due once, at its first occurrence, and one that recurs by the hour is due in both.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import InvalidRequest

MissedPolicy = Literal["skip", "fire_once", "catch_up"]

# a run this late is still on time: the reconciler itself is woken once a minute
ON_TIME_TOLERANCE = timedelta(seconds=90)
# the most missed runs that catch_up makes up for, the newest ones
MAX_CATCH_UP_RUNS = 100

RANDOM_FIELDS = re.compile(r"(?:^|[\s,])[RH](?:[\s(/,]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """Either `cron` in `timezone`, or every `interval` seconds from `anchor`."""

    anchor: datetime
    cron: str | None = None
    interval: int | None = None
    timezone: str = "UTC"

    def check(self) -> None:
        """Raises InvalidRequest."""
        if (self.cron is None) == (self.interval is None):
            raise InvalidRequest("a schedule needs either cron or interval_seconds")
        if self.cron is not None:
            _check_cron(self.cron)
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidRequest(f"there is no time zone {self.timezone!r}; write it as in Europe/Berlin") from None


def next_due(schedule: ScheduleSpec, after: datetime) -> datetime:
    """The first instant after `after` at which the schedule is due."""
    if schedule.interval is not None:
        step = timedelta(seconds=schedule.interval)
        return schedule.anchor + ((after - schedule.anchor) // step + 1) * step
    return next(_cron_instants(schedule, after))


def due_until(schedule: ScheduleSpec, first: datetime, now: datetime, limit: int) -> list[datetime]:
    """The newest `limit` due instants from `first`, which is itself due, to `now`, in order."""
    if first > now:
        return []
    if schedule.interval is not None:
        step = timedelta(seconds=schedule.interval)
        count = (now - first) // step + 1
        return [first + index * step for index in range(max(0, count - limit), count)]
    # croniter is wrong backwards across a change of clocks: iterate forward, from ever earlier starts
    window = timedelta(hours=1)
    while True:
        start = max(now - window, first)
        due = deque(takewhile(lambda instant: instant <= now, _cron_instants(schedule, start)), maxlen=limit)
        if len(due) == limit:
            return list(due)
        if start == first:
            return [first, *due]
        window *= 2


def due_runs(
    schedule: ScheduleSpec, policy: MissedPolicy, first: datetime, now: datetime
) -> tuple[list[datetime], datetime]:
    """The runs that a schedule due at `first` owes at `now`, and when it is due next."""
    due = due_until(schedule, first, now, MAX_CATCH_UP_RUNS if policy == "catch_up" else 1)
    if policy == "skip":
        due = [instant for instant in due if now - instant <= ON_TIME_TOLERANCE]
    return due, next_due(schedule, now)


def _check_cron(cron: str) -> None:
    if not cron.startswith("@") and len(cron.split()) != 5:
        raise InvalidRequest(f"cron {cron!r}: expected five fields: minute hour day month weekday")
    if RANDOM_FIELDS.search(cron):
        raise InvalidRequest(f"cron {cron!r}: random times (R and H) are not supported")
    try:
        _instants(cron, datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except (ValueError, KeyError) as error:
        raise InvalidRequest(f"cron {cron!r}: {error}") from None


def _cron_instants(schedule: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    """The due instants after `after`, without end."""
    assert schedule.cron is not None
    clock = _instants(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone)))
    by_the_hour = _recurs_by_the_hour(schedule.cron)
    while True:
        instant = clock.get_next(datetime)
        # a fixed time that occurs twice is due only at its first occurrence
        if instant.fold == 0 or by_the_hour:
            yield instant.astimezone(UTC)


def _instants(cron: str, after: datetime) -> Any:
    """A croniter. It is imported for the first cron line: most cold starts need none, and all would wait for it."""
    from croniter import croniter

    return croniter(cron, after)


def _recurs_by_the_hour(cron: str) -> bool:
    return cron in ("@hourly",) or (not cron.startswith("@") and cron.split()[1].startswith("*"))
