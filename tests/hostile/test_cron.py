"""A schedule's line is read by a library that was not made for strangers: whatever it is, it runs or is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.store.schedule_spec import ScheduleSpec, due_runs, next_due

from .conftest import FUZZ

NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
PIECES = st.sampled_from(
    [
        *(
            "*",
            "0",
            "1",
            "5",
            "59",
            "60",
            "99",
            "-1",
            "1-5",
            "5-1",
            "*/2",
            "*/0",
            "*/99999999",
            "0-59/7",
            "1,2,3",
            ",",
            "/",
        ),
        *(
            "L",
            "#",
            "5#3",
            "L5",
            "W",
            "?",
            "mon",
            "MON-FRI",
            "jan",
            "x",
            "H",
            "R",
            "R(1-5)",
            "@daily",
            "@reboot",
            "29",
            "30",
        ),
        *("0-99999999", "1e9", "９", "\x00", "*" * 50, "1-2-3", "//", "1/", "/1", "2/2/2", "31", "2"),
    ]
)
LINES = st.one_of(
    st.lists(PIECES, min_size=5, max_size=5).map(" ".join),
    st.lists(PIECES, min_size=1, max_size=7).map(" ".join),
    st.text(max_size=30),
)
ZONES = st.one_of(
    st.sampled_from(
        ["UTC", "Europe/Berlin", "America/St_Johns", "../etc/passwd", "/etc/passwd", "", "\x00", "x" * 100]
    ),
    st.text(max_size=10),
)


@FUZZ
@given(line=LINES, zone=ZONES)
def test_any_line_is_refused_or_runs(line: str, zone: str) -> None:
    schedule = ScheduleSpec(NOW, cron=line, timezone=zone)
    try:
        schedule.check()
    except InvalidRequest:
        return
    instants = [next_due(schedule, NOW)]
    for _ in range(3):
        instants.append(next_due(schedule, instants[-1]))
    assert all(one < other for one, other in pairwise([NOW, *instants]))
    first = NOW - timedelta(days=3)
    runs, due = due_runs(schedule, "catch_up", next_due(schedule, first), NOW)
    assert len(runs) <= 100 and due is not None and due > NOW


@pytest.mark.parametrize(
    "line", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * * * * *", "0-99999999 * * * *", "@reboot", "* * * * *;x"]
)
def test_a_line_that_never_comes_or_never_ends_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest):
        ScheduleSpec(NOW, cron=line).check()
