from __future__ import annotations

import datetime
import random

import pytest

from noetl_serverless.tables.instants import date_text, days_of, instant_text, microseconds_of, time_text

EPOCH = datetime.date(1970, 1, 1).toordinal()


def test_days_are_those_of_the_calendar_of_python() -> None:
    chance = random.Random(14)
    days = {1, EPOCH, datetime.date.max.toordinal(), *(chance.randrange(1, 3_652_060) for _ in range(2_000))}
    for day in days:
        text = datetime.date.fromordinal(day).isoformat()
        assert (date_text(day - EPOCH, postgres=True), days_of(text)) == (text, day - EPOCH)


def test_every_day_has_one_text_and_every_text_one_day() -> None:
    chance = random.Random(15)
    for _ in range(2_000):
        day = chance.randrange(-2_440_000, 2_145_031_948)
        assert days_of(date_text(day, postgres=True)) == day
        instant = day % 100_000_000 * 86_400_000_000 + chance.randrange(86_400_000_000)
        text = instant_text(instant, has_zone=False, postgres=True).replace("T", " ")
        assert microseconds_of(text) == instant


@pytest.mark.parametrize(
    ("days", "postgres", "duckdb"),
    [
        (-719_163, "0001-12-31 BC", "0001-12-31 (BC)"),
        (2_932_897, "10000-01-01", "10000-01-01"),
        (2**31 - 1, "infinity", "infinity"),
        (-(2**31) + 1, "-infinity", "-infinity"),
    ],
)
def test_dates_beyond_the_calendar_have_the_texts_of_their_databases(days: int, postgres: str, duckdb: str) -> None:
    assert (date_text(days, postgres=True), date_text(days, postgres=False)) == (postgres, duckdb)
    assert days_of(postgres) == days


@pytest.mark.parametrize(
    ("microseconds", "text"), [(0, "00:00:00"), (86_400_000_000, "24:00:00"), (3_723_500_000, "01:02:03.5")]
)
def test_a_time_has_no_zeros_at_its_end(microseconds: int, text: str) -> None:
    assert time_text(microseconds) == text


@pytest.mark.parametrize("text", ["", "2024-1-1", "2024-01-01T00:00:00", "2024-01-01 00:00:00+02", "tomorrow"])
def test_what_is_no_date_is_refused(text: str) -> None:
    for read in (days_of, microseconds_of):
        with pytest.raises(ValueError, match="is no date or instant"):
            read(text)
