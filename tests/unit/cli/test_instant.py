from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from noetl_serverless.cli.failure import WrongUse
from noetl_serverless.cli.instant import ago, instant


def test_a_time_ago() -> None:
    for text, delta in (("90m", timedelta(minutes=90)), ("2w", timedelta(weeks=2)), ("5s", timedelta(seconds=5))):
        for read in (ago, instant):
            assert abs(datetime.now(UTC) - delta - read(text, "--since")) < timedelta(seconds=5)
    assert ago("999999999w", "--since") == datetime.fromtimestamp(0, UTC)


def test_a_date_or_a_time_is_of_here_unless_it_says_otherwise() -> None:
    assert instant("2026-05-01T08:00:00+02:00", "--until") == datetime(2026, 5, 1, 6, tzinfo=UTC)
    assert instant("2026-05-01T08:00", "--until") == datetime(2026, 5, 1, 8).astimezone()
    assert instant("2026-05-01", "--until") == datetime(2026, 5, 1).astimezone()


@pytest.mark.parametrize("text", ["", "7", "7y", "yesterday", "2026-13-01", "-7d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="--since"):
        instant(text, "--since")
    with pytest.raises(WrongUse, match="--since"):
        ago(text, "--since")
