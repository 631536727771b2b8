from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.store.schedule_spec import (
    MAX_CATCH_UP_RUNS,
    ON_TIME_TOLERANCE,
    ScheduleSpec,
    due_between,
    due_runs,
    due_until,
    in_zone,
    instants,
    next_due,
    next_run,
    start_of,
)

NEW_YORK = "America/New_York"
ANCHOR = datetime(2025, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def cron(line: str, zone: str = "UTC") -> ScheduleSpec:
    return ScheduleSpec(ANCHOR, cron=line, timezone=zone)


def sequence(schedule: ScheduleSpec, after: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        after = next_due(schedule, after)
        found.append(after)
    return found


def test_a_cron_line_is_read_in_its_time_zone() -> None:
    assert next_due(cron("30 6 * * *", "Europe/Berlin"), at("2025-07-01T00:00Z")) == at("2025-07-01T04:30Z")
    assert next_due(cron("30 6 * * *", "Europe/Berlin"), at("2025-01-01T00:00Z")) == at("2025-01-01T05:30Z")


def test_due_now_means_due_next_time() -> None:
    assert next_due(cron("0 * * * *"), at("2025-07-01T01:00Z")) == at("2025-07-01T02:00Z")


def test_a_time_that_the_clock_skips_is_due_at_the_change() -> None:
    found = sequence(cron("30 2 * * *", NEW_YORK), at("2025-03-08T12:00Z"), 2)
    assert found == [at("2025-03-09T03:00-04:00"), at("2025-03-10T02:30-04:00")]


def test_a_time_that_the_clock_repeats_is_due_once() -> None:
    found = sequence(cron("30 1 * * *", NEW_YORK), at("2025-11-01T12:00Z"), 2)
    assert found == [at("2025-11-02T01:30-04:00"), at("2025-11-03T01:30-05:00")]


def test_what_recurs_by_the_hour_goes_on_through_the_repeated_hour() -> None:
    found = sequence(cron("*/30 * * * *", NEW_YORK), at("2025-11-02T00:45-04:00"), 5)
    assert found == [at("2025-11-02T05:00Z") + n * timedelta(minutes=30) for n in range(5)]


def test_what_recurs_by_the_hour_passes_over_the_gap() -> None:
    found = sequence(cron("*/30 * * * *", NEW_YORK), at("2025-03-09T01:15-05:00"), 3)
    assert found == [at("2025-03-09T06:30Z") + n * timedelta(minutes=30) for n in range(3)]


def test_an_interval_keeps_its_grid() -> None:
    schedule = ScheduleSpec(ANCHOR, interval=90)
    assert next_due(schedule, ANCHOR) == ANCHOR + timedelta(seconds=90)
    assert next_due(schedule, ANCHOR + timedelta(seconds=179.5)) == ANCHOR + timedelta(seconds=180)
    assert next_due(schedule, ANCHOR + timedelta(seconds=180)) == ANCHOR + timedelta(seconds=270)


@settings(max_examples=40, deadline=None)
@given(
    line=st.sampled_from(["30 1 * * *", "30 2 * * *", "15 */2 * * *", "0 * * * *", "0 3 * * 0", "@daily"]),
    zone=st.sampled_from([NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    month=st.sampled_from([3, 4, 10, 11]),
    hours=st.integers(1, 900),
    limit=st.integers(1, 60),
)
def test_the_newest_of_what_was_due_is_the_tail_of_all_that_was(
    line: str, zone: str, month: int, hours: int, limit: int
) -> None:
    schedule = cron(line, zone)
    first = next_due(schedule, datetime(2025, month, 1, tzinfo=UTC))
    now = first + timedelta(hours=hours)
    every = [first]
    while (due := next_due(schedule, every[-1])) <= now:
        every.append(due)
    assert every == sorted(set(every))
    assert due_until(schedule, first, now, limit) == every[-limit:]


def test_nothing_was_due_before_it_was_due() -> None:
    first = at("2025-07-01T01:00Z")
    assert due_until(cron("0 * * * *"), first, first - timedelta(seconds=1), 10) == []


MISSED = at("2025-07-01T01:00Z")
# four hours were missed and the fifth is an hour old
LATE = at("2025-07-01T05:59Z")


def test_skip_gives_no_run_for_what_was_missed() -> None:
    assert due_runs(cron("0 * * * *"), "skip", MISSED, LATE) == ([], at("2025-07-01T06:00Z"))


def test_skip_still_gives_a_run_that_is_only_a_little_late() -> None:
    now = at("2025-07-01T06:00Z") + ON_TIME_TOLERANCE
    assert due_runs(cron("0 * * * *"), "skip", MISSED, now)[0] == [at("2025-07-01T06:00Z")]


def test_fire_once_gives_one_run_for_all_that_were_missed() -> None:
    assert due_runs(cron("0 * * * *"), "fire_once", MISSED, LATE)[0] == [at("2025-07-01T05:00Z")]


def test_catch_up_gives_each_missed_run() -> None:
    due, following = due_runs(cron("0 * * * *"), "catch_up", MISSED, LATE)
    assert due == [MISSED + n * timedelta(hours=1) for n in range(5)]
    assert following == at("2025-07-01T06:00Z")


@pytest.mark.parametrize("schedule", [cron("* * * * *"), ScheduleSpec(ANCHOR, interval=60)])
def test_catch_up_is_bounded_to_the_newest(schedule: ScheduleSpec) -> None:
    due, _ = due_runs(schedule, "catch_up", MISSED, MISSED + timedelta(days=30))
    assert len(due) == MAX_CATCH_UP_RUNS
    assert due[-1] == MISSED + timedelta(days=30)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (ScheduleSpec(ANCHOR), "either cron or interval_seconds"),
        (ScheduleSpec(ANCHOR, cron="* * * * *", interval=5), "either cron or interval_seconds"),
        (cron("61 * * * *"), "cron '61 \\* \\* \\* \\*': out of range; expected minute 0-59"),
        (cron("* * * *"), "five fields"),
        (cron("* * * * * *"), "five fields"),
        (cron("0 0 31 2 *"), "is never due: no day has this date"),
        (cron("0 0 30 2 *"), "is never due: no day has this date"),
        (cron("0 6 * * *", "Europe/Berlim"), "there is no time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?"),
        (cron("0 6 * * *", "utc"), "there is no time zone 'utc'; did you mean 'UTC'?"),
        (cron("0 6 * * *", "america/new_york"), "did you mean 'America/New_York'?"),
        (cron("@never"), "@never"),
        (cron("H * * * *"), "not supported"),
        (cron("R(0-10) * * * *"), "not supported"),
        (cron("* * * * *", "Mars/Olympus"), "Mars/Olympus"),
        (cron("* * * * *", "../etc/passwd"), "time zone"),
    ],
)
def test_a_schedule_spec_that_cannot_run_is_refused(schedule: ScheduleSpec, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        schedule.check()


@pytest.mark.parametrize("line", ["0 6 * * MON-FRI", "0 0 1 MAR,APR *", "0 0 L * *", "@hourly", "5,35 * * * thu"])
def test_ordinary_lines_are_accepted(line: str) -> None:
    cron(line).check()


@pytest.mark.parametrize(
    ("line", "twice"), [("@hourly", True), ("@daily", False), ("30 * * * *", True), ("30 1 * * *", False)]
)
def test_only_what_recurs_by_the_hour_is_due_twice_in_an_hour_that_comes_twice(line: str, twice: bool) -> None:
    found = sequence(cron(line, NEW_YORK), at("2025-11-02T00:45-04:00"), 3)
    within = [instant for instant in found if at("2025-11-02T01:00-04:00") <= instant < at("2025-11-02T02:00-05:00")]
    assert len(within) == (2 if twice else (line == "30 1 * * *"))


def test_an_interval_before_its_anchor_begins_with_it() -> None:
    schedule = ScheduleSpec(ANCHOR, interval=90)
    assert next_due(schedule, ANCHOR - timedelta(seconds=1)) == ANCHOR
    step = timedelta(seconds=90)
    assert due_until(schedule, ANCHOR, ANCHOR + 3 * step, 2) == [ANCHOR + 2 * step, ANCHOR + 3 * step]
    assert due_until(schedule, ANCHOR, ANCHOR, 5) == [ANCHOR]


def test_a_run_is_late_when_it_is_a_moment_more_than_that() -> None:
    now = at("2025-07-01T06:00Z") + ON_TIME_TOLERANCE
    assert due_runs(cron("0 * * * *"), "skip", MISSED, now + timedelta(microseconds=1))[0] == []
    assert (timedelta(seconds=90), 100) == (ON_TIME_TOLERANCE, MAX_CATCH_UP_RUNS)


def test_a_cron_line_without_a_time_zone_is_in_utc() -> None:
    schedule = ScheduleSpec(datetime(2026, 1, 1, tzinfo=UTC), cron="0 9 * * *")
    assert next_due(schedule, datetime(2026, 7, 1, tzinfo=UTC)) == datetime(2026, 7, 1, 9, tzinfo=UTC)


CHANGES = {
    "Europe/Berlin": ("2025-03-29T12:00Z", "2025-10-25T12:00Z"),
    NEW_YORK: ("2025-03-08T18:00Z", "2025-11-01T18:00Z"),
    # by half an hour
    "Australia/Lord_Howe": ("2025-10-04T03:00Z", "2025-04-05T03:00Z"),
    # at midnight
    "Asia/Beirut": ("2025-03-29T12:00Z", "2025-10-25T12:00Z"),
    # a whole day was skipped
    "Pacific/Apia": ("2011-12-29T12:00Z",),
}
HOURS = {
    "*": (range(24), True),
    "*/2": (range(0, 24, 2), True),
    "0-23": (range(24), True),
    "*/24": ([0], False),
    "0": ([0], False),
    "1-3": ([1, 2, 3], False),
    "2": ([2], False),
    "1,2": ([1, 2], False),
}
MINUTES = {"*/20": range(0, 60, 20), "0": [0], "0,30": [0, 30], "45": [45]}


def by_the_clock(minute: str, hour: str, zone: ZoneInfo, first: datetime, last: datetime) -> list[datetime]:
    """Goes through all minutes that a clock on the wall shows, or passes over."""
    hours, by_the_hour = HOURS[hour]
    found = set()
    wall = first.astimezone(zone).replace(tzinfo=None) - timedelta(days=2)
    passed_over = False
    while wall < last.astimezone(zone).replace(tzinfo=None) + timedelta(days=2):
        shown = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        exists = shown[0].astimezone(zone).replace(tzinfo=None) == wall
        if exists and passed_over:
            # the instant of the change
            found.add(shown[0])
            passed_over = False
        if wall.minute in MINUTES[minute] and wall.hour in hours:
            if exists:
                found |= set(shown if by_the_hour else shown[:1])
            elif not by_the_hour:
                passed_over = True
        wall += timedelta(minutes=1)
    return sorted(instant for instant in found if first < instant <= last)


@pytest.mark.parametrize(("zone", "day"), [(zone, day) for zone, days in CHANGES.items() for day in days])
@pytest.mark.parametrize("hour", HOURS)
def test_a_line_is_due_as_a_clock_on_the_wall_shows_it(zone: str, day: str, hour: str) -> None:
    first = at(day)
    last = first + timedelta(hours=36)
    for minute in MINUTES:
        schedule = cron(f"{minute} {hour} * * *", zone)
        due = list(takewhile(lambda instant: instant <= last, instants(schedule, first)))
        assert due == by_the_clock(minute, hour, ZoneInfo(zone), first, last), schedule.cron
        # from wherever one begins, the same follows
        for index in range(0, len(due) - 1, 1 + len(due) // 7):
            assert next_due(schedule, due[index]) == due[index + 1], (schedule.cron, due[index])
            assert next_due(schedule, due[index + 1] - timedelta(seconds=1)) == due[index + 1], schedule.cron


@pytest.mark.parametrize("policy", ["skip", "fire_once", "catch_up"])
def test_after_a_week_of_missed_minutes_the_policy_says_what_runs(policy: Any) -> None:
    schedule = cron("* * * * *", "Europe/Berlin")
    first, now = at("2025-10-20T00:01Z"), at("2025-10-27T00:00:30Z")
    due, following = due_runs(schedule, policy, first, now)
    newest = at("2025-10-27T00:00Z")
    # the newest is half a minute late
    count = MAX_CATCH_UP_RUNS if policy == "catch_up" else 1
    assert due == [newest - n * timedelta(minutes=1) for n in range(count - 1, -1, -1)]
    assert following == newest + timedelta(minutes=1)


@settings(max_examples=60, deadline=None)
@given(
    schedule=st.builds(
        ScheduleSpec,
        st.just(ANCHOR),
        cron=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *"]),
        timezone=st.sampled_from([NEW_YORK, "Australia/Lord_Howe", "UTC"]),
        jitter=st.integers(1, 86400),
    )
    | st.integers(2, 90000).flatmap(
        lambda every: st.builds(
            ScheduleSpec, st.just(ANCHOR), interval=st.just(every), jitter=st.integers(1, every - 1)
        )
    ),
    id=st.integers(1, (1 << 63) - 1),
    seconds=st.integers(0, 400 * 86400),
)
def test_jitter_is_always_the_same_and_keeps_runs_in_order(schedule: ScheduleSpec, id: int, seconds: int) -> None:
    due = next_due(schedule, ANCHOR + timedelta(seconds=seconds))
    start = start_of(schedule, id, due)
    assert timedelta(0) <= start - due <= timedelta(seconds=schedule.jitter)
    assert start < next_due(schedule, due)
    assert start_of(schedule, id, due) == start


def test_jitter_spreads_the_starts_of_schedules_and_of_their_runs() -> None:
    schedule = ScheduleSpec(ANCHOR, cron="0 * * * *", jitter=600)
    by_schedule = {start_of(schedule, id, ANCHOR) for id in range(1, 101)}
    by_run = {start_of(schedule, 1, ANCHOR + hours * timedelta(hours=1)) for hours in range(100)}
    assert min(len(by_schedule), len(by_run)) > 90
    late = sorted(start - ANCHOR for start in by_schedule)
    assert late[0] < timedelta(seconds=60) and late[-1] > timedelta(seconds=540)


@pytest.mark.parametrize("spec", [{"cron": "0 * * * *"}, {"interval": 3600}])
def test_a_schedule_is_not_due_before_its_start_nor_after_its_end(spec: dict[str, Any]) -> None:
    start, end = at("2025-07-01T01:00Z"), at("2025-07-01T03:00Z")
    schedule = ScheduleSpec(start, **spec, start=start, end=end)
    hours = [start + n * timedelta(hours=1) for n in range(3)]
    assert list(instants(schedule, ANCHOR)) == hours
    assert due_until(schedule, hours[0], end + timedelta(days=3), 10) == hours
    assert due_runs(schedule, "catch_up", hours[0], end + timedelta(days=3)) == (hours, None)
    assert due_between(schedule, ANCHOR, end, 10) == hours[:2]
    assert (next_run(schedule, hours[1]), next_run(schedule, hours[2])) == (end, None)


@settings(max_examples=40, deadline=None)
@given(
    schedule=st.sampled_from(
        [cron("*/7 1-3 * * *", "Australia/Lord_Howe"), cron("30 2 * * *", NEW_YORK), ScheduleSpec(ANCHOR, interval=611)]
    ),
    first=st.integers(-40 * 86400 * 1000, 0),
    length=st.integers(0, 40 * 86400 * 1000),
    limit=st.integers(1, 40),
)
def test_what_was_due_in_a_range_is_what_follows_its_beginning(
    schedule: ScheduleSpec, first: int, length: int, limit: int
) -> None:
    begin = at("2025-04-30T00:00Z") + timedelta(milliseconds=first)
    before = begin + timedelta(milliseconds=length)
    expected = takewhile(lambda instant: instant < before, instants(schedule, begin - timedelta(microseconds=1)))
    assert due_between(schedule, begin, before, limit) == list(expected)[:limit]


def test_an_instant_without_an_offset_is_read_in_the_time_zone() -> None:
    assert in_zone(datetime(2025, 7, 1, 6), "Europe/Berlin") == at("2025-07-01T04:00Z")
    assert in_zone(at("2025-07-01T06:00Z"), "Europe/Berlin") == at("2025-07-01T06:00Z")
    for wrong in (datetime(1969, 1, 1), datetime(2200, 1, 1)):
        with pytest.raises(InvalidRequest, match="the year must be from 1970 to 2199"):
            in_zone(wrong, "UTC")
