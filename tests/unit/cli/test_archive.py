from __future__ import annotations

from datetime import UTC, datetime

import pytest

from noetl_serverless.cli.commands.archive import cutoff_of
from noetl_serverless.cli.failure import WrongUse

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", "2026-03-01T12:00:00+00:00"),
        ("1.5h", "2026-03-31T10:30:00+00:00"),
        ("0s", "2026-03-31T12:00:00+00:00"),
        ("2w", "2026-03-17T12:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T10:00:00+02:00", "2026-01-31T10:00:00+02:00"),
    ],
)
def test_an_age_or_a_date(text: str, expected: str) -> None:
    assert cutoff_of(text, NOW).isoformat() == expected


@pytest.mark.parametrize("text", ["", "soon", "30", "d", "-1d", "1y", "2026-13-01"])
def test_anything_else_is_a_wrong_use(text: str) -> None:
    with pytest.raises(WrongUse, match="90d"):
        cutoff_of(text, NOW)
