"""When a schedule is due: pure functions of its spec and an instant. All instants are aware and in UTC.

A cron line is read in its time zone. When clocks go forward, a time that does not exist is due at
the instant of the change, and one that recurs by the hour passes over the gap. When clocks go back, a fixed time is
due once, at its first occurrence, and one that recurs by the hour is due in both. What recurs by the hour is a line
whose hours begin with `*`, or are all 24.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count, islice, takewhile
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from ..errors import InvalidRequest

MissedPolicy = Literal["skip", "fire_once", "catch_up"]

# a run this late is still on time: the reconciler itself is woken once a minute
ON_TIME_TOLERANCE = timedelta(seconds=90)
# the most missed runs that catch_up makes up for, the newest ones
MAX_CATCH_UP_RUNS = 100
# changes of clocks are looked for this far around an instant: the longest one has skipped a day
NEAR_CHANGE = timedelta(hours=25)
SECOND = timedelta(seconds=1)
# of instants that are given: far from where arithmetic with them ends
FIRST_YEAR, LAST_YEAR = 1970, 2199

RANDOM_FIELDS = re.compile(r"(?:^|[\s,])[RH](?:[\s(/,]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """Either `cron` in `timezone`, or every `interval` seconds from `anchor`; not due before `start`, nor after `end`.
    Each start comes up to `jitter` seconds after its due time."""

    anchor: datetime
    cron: str | None = None
    interval: int | None = None
    timezone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    jitter: int = 0

    def check(self) -> None:
        """Raises InvalidRequest."""
        if (self.cron is None) == (self.interval is None):
            raise InvalidRequest("a schedule needs either cron or interval_seconds")
        zone_of(self.timezone)
        if self.cron is not None:
            _check_cron(self.cron)
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise InvalidRequest("start_at must be before end_at")
        if self.interval is not None and self.jitter >= self.interval:
            raise InvalidRequest(
                f"jitter_seconds must be less than interval_seconds: {self.jitter} is not less than {self.interval}"
            )


def zone_of(name: str) -> ZoneInfo:
    """Raises InvalidRequest."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from ..playbook.faults import did_you_mean

        known = available_timezones()
        same = next((zone for zone in sorted(known) if zone.casefold() == name.casefold()), None)
        hint = f"; did you mean '{same}'?" if same else did_you_mean(name, known) or "; write it as in Europe/Berlin"
        raise InvalidRequest(f"there is no time zone {name!r}{hint}") from None


def in_zone(given: datetime, timezone: str) -> datetime:
    """In UTC. An instant without an offset is read in the time zone. Raises InvalidRequest."""
    zone = zone_of(timezone)
    if not FIRST_YEAR <= given.year <= LAST_YEAR:
        raise InvalidRequest(f"{given.isoformat()}: the year must be from {FIRST_YEAR} to {LAST_YEAR}")
    return (given if given.tzinfo is not None else given.replace(tzinfo=zone)).astimezone(UTC)


def instants(schedule: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    """The instants after `after` at which the schedule is due, in order; without end unless the schedule has one."""
    if schedule.end is None:
        return _instants(schedule, after)
    end = schedule.end
    return takewhile(lambda instant: instant <= end, _instants(schedule, after))


def next_due(schedule: ScheduleSpec, after: datetime) -> datetime:
    """The first instant after `after` at which the schedule is due, whether or not it has ended by then."""
    return next(_instants(schedule, after))


def next_run(schedule: ScheduleSpec, after: datetime) -> datetime | None:
    """As `next_due`; None if the schedule ends before."""
    return next(instants(schedule, after), None)


def due_between(schedule: ScheduleSpec, first: datetime, before: datetime, limit: int) -> list[datetime]:
    """The oldest `limit` due instants from `first`, inclusive, to `before`, exclusive, in order."""
    # what is due is due at whole seconds, `first` need not be
    due = (instant for instant in instants(schedule, first - SECOND) if instant >= first)
    return list(islice(takewhile(lambda instant: instant < before, due), limit))


def start_of(schedule: ScheduleSpec, schedule_id: int, due: datetime) -> datetime:
    """When the run that is due then starts: always the same, and before the next one is due."""
    if not schedule.jitter:
        return due
    milliseconds = min(schedule.jitter * 1000, (next_due(schedule, due) - due - SECOND) // timedelta(milliseconds=1))
    digest = sha256(f"{schedule_id}:{int(due.timestamp())}".encode()).digest()
    return due + timedelta(milliseconds=int.from_bytes(digest[:8], "big") % (milliseconds + 1))


def due_until(schedule: ScheduleSpec, first: datetime, now: datetime, limit: int) -> list[datetime]:
    """The newest `limit` due instants from `first`, which is itself due, to `now`, in order."""
    if schedule.end is not None:
        now = min(now, schedule.end)
    if first > now:
        return []
    if schedule.interval is not None:
        step = timedelta(seconds=schedule.interval)
        owed = (now - first) // step + 1
        return [first + index * step for index in range(max(0, owed - limit), owed)]
    # a cron line is read forward only: iterate from ever earlier starts
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
) -> tuple[list[datetime], datetime | None]:
    """The runs that a schedule due at `first` owes at `now`, and when it is due next; None if it has ended."""
    due = due_until(schedule, first, now, MAX_CATCH_UP_RUNS if policy == "catch_up" else 1)
    if policy == "skip":
        due = [instant for instant in due if now - instant <= ON_TIME_TOLERANCE]
    return due, next_run(schedule, now)


_FIELDS: Final = "minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7 or sun-sat"


def _check_cron(cron: str) -> None:
    if not cron.startswith("@") and len(cron.split()) != 5:
        raise InvalidRequest(f"cron {cron!r}: expected five fields: minute hour day month weekday")
    if RANDOM_FIELDS.search(cron):
        raise InvalidRequest(f"cron {cron!r}: random times (R and H) are not supported")
    from croniter import CroniterBadDateError

    try:
        _wall_times(cron, datetime(2024, 1, 1)).get_next(datetime)
    except CroniterBadDateError:
        raise InvalidRequest(f"cron {cron!r} is never due: no day has this date") from None
    except (ValueError, KeyError) as error:
        _, of_field, detail = str(error).rpartition("not acceptable")
        if of_field:
            # the library repeats the expression, and does not say what the fields may be
            detail = f"{detail.strip(' ,') or 'it cannot be read'}; expected {_FIELDS}"
        raise InvalidRequest(f"cron {cron!r}: {detail}") from None


def _instants(schedule: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    if schedule.start is not None:
        after = max(after, schedule.start - SECOND)
    if schedule.interval is None:
        return _cron_instants(schedule, after)
    step = timedelta(seconds=schedule.interval)
    return (schedule.anchor + step * number for number in count((after - schedule.anchor) // step + 1))


def _cron_instants(schedule: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    """The due instants after `after`, in order and without end.

    The library reads the line without a zone, and its wall times become instants here: where clocks change by half an
    hour, it passes over some.
    """
    assert schedule.cron is not None
    zone = ZoneInfo(schedule.timezone)
    by_the_hour = _recurs_by_the_hour(schedule.cron)
    # wall times before this one come again when the clocks go back
    wall_times = _wall_times(schedule.cron, after.astimezone(zone).replace(tzinfo=None) - _change_near(zone, after))
    repeated: deque[datetime] = deque()
    last = after
    while True:
        wall: datetime = wall_times.get_next(datetime)
        first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if second < first:
            # clocks go forward over it
            if by_the_hour:
                continue
            first = _instant_of_change(zone, second, first)
        while repeated and repeated[0] <= first:
            if (instant := repeated.popleft()) > last:
                last = instant
                yield instant
        if first > last:
            last = first
            yield first
        if second > first and by_the_hour:
            repeated.append(second)


def _change_near(zone: ZoneInfo, instant: datetime) -> timedelta:
    """By how much the clocks change around the instant."""
    around = (instant - NEAR_CHANGE, instant, instant + NEAR_CHANGE)
    offsets = [each.astimezone(zone).utcoffset() or timedelta() for each in around]
    return max(offsets) - min(offsets)


def _instant_of_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant between the two at which the clocks go forward."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _wall_times(cron: str, after: datetime) -> Any:
    """A croniter. It is imported for the first cron line: most cold starts need none, and all would wait for it."""
    from croniter import croniter

    return croniter(cron, after)


def _recurs_by_the_hour(cron: str) -> bool:
    from croniter import croniter

    hours = croniter.expand(cron)[0][1]
    if hours == ["*"] or len(hours) == 24:
        return True
    # `*/24` is one hour, as is that of @daily
    return len(hours) > 1 and cron.split()[1].startswith("*")
