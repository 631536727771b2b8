"""Dates and times of Arrow as texts, those beyond the calendar of Python included, and the way back.

A date is a number of days since 1970, an instant one of microseconds; the largest number, and the smallest or the one
after it, stand for infinity, as in DuckDB.
"""

from __future__ import annotations

import re
from typing import Final

DAY_MICROSECONDS: Final = 86_400_000_000
_LAST_DAY: Final = 2**31 - 1
_LAST_MICROSECOND: Final = 2**63 - 1

_TEXT = re.compile(
    r"(?P<year>\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?: (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?(?:\+00)?)?(?P<bc> BC)?"
)


def date_text(days: int, postgres: bool) -> str:
    if days >= _LAST_DAY or days <= -_LAST_DAY:
        return _infinity(days)
    date, era = _date(days, postgres)
    return date + era


def instant_text(microseconds: int, has_zone: bool, postgres: bool) -> str:
    """`has_zone`: it is one of UTC, and not without a zone."""
    if microseconds >= _LAST_MICROSECOND or microseconds <= -_LAST_MICROSECOND:
        return _infinity(microseconds)
    days, rest = divmod(microseconds, DAY_MICROSECONDS)
    date, era = _date(days, postgres)
    time = time_text(rest)
    zone = "+00" if has_zone else ""
    if not postgres:
        return f"{date}{era} {time}{zone}"
    return f"{date} {time}{zone}{era}" if era else f"{date}T{time}{zone}{':00' if zone else ''}"


def time_text(microseconds: int, short: bool = True) -> str:
    """Of the time of a day, or of its end. `short`: without zeros at the end of a fraction."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
    if not fraction:
        return text
    return f"{text}.{fraction:06d}".rstrip("0") if short else f"{text}.{fraction:06d}"


def far_date_text(days: int) -> str:
    """Of a date that has more days than one of 32 bits, among which none stands for infinity."""
    return "".join(_date(days, postgres=False))


def duration_text(microseconds: int) -> str:
    """As Python writes a duration, which may have more days than it can have there."""
    days, rest = divmod(microseconds, DAY_MICROSECONDS)
    seconds, fraction = divmod(rest, 1_000_000)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}" + (f".{fraction:06d}" if fraction else "")
    return f"{days} day{'' if abs(days) == 1 else 's'}, {text}" if days else text


def days_of(text: str) -> int:
    """Of a date as PostgreSQL writes it; raises ValueError."""
    if text in ("infinity", "-infinity"):
        return _LAST_DAY if text == "infinity" else -_LAST_DAY
    return _days(_read(text))


def microseconds_of(text: str) -> int:
    """Of an instant in UTC, or of one without a zone, as PostgreSQL writes it; raises ValueError."""
    if text in ("infinity", "-infinity"):
        return _LAST_MICROSECOND if text == "infinity" else -_LAST_MICROSECOND
    found = _read(text)
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    fraction = int((found["fraction"] or "").ljust(6, "0"))
    return _days(found) * DAY_MICROSECONDS + ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction


def _infinity(number: int) -> str:
    """As PostgreSQL and DuckDB write it in SQL; DuckDB gives Python the last or the first day of the calendar instead,
    which is another value."""
    return "infinity" if number > 0 else "-infinity"


def _date(days: int, postgres: bool) -> tuple[str, str]:
    """The text of a day of the Gregorian calendar, and what follows if it is before the year 1."""
    year, month, day = _civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}", ""
    return f"{1 - year:04d}-{month:02d}-{day:02d}", " BC" if postgres else " (BC)"


def _read(text: str) -> re.Match[str]:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no date or instant")
    return found


def _days(found: re.Match[str]) -> int:
    year = int(found["year"])
    return _from_civil(1 - year if found["bc"] else year, int(found["month"]), int(found["day"]))


# both by eras of 400 years, of which each has 146,097 days; years begin in March, so that a leap day is the last


def _civil(days: int) -> tuple[int, int, int]:
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    of_month = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (month <= 2), month, of_month


def _from_civil(year: int, month: int, day: int) -> int:
    era, of_era = divmod(year - (month <= 2), 400)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
