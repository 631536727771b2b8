from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.store.schedule_spec import (
    MAX_CATCH_UP_RUNS,
    ON_TIME_TOLERANCE,
    ScheduleSpec,
    due_runs,
    due_until,
    next_due,
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
        (cron("61 * * * *"), "out of range"),
        (cron("* * * *"), "five fields"),
        (cron("* * * * * *"), "five fields"),
        (cron("0 0 31 2 *"), "failed to find"),
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
