from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import archive
from noetl_serverless.cli.commands.archive import cutoff_of
from noetl_serverless.cli.failure import Refused, WrongUse
from noetl_serverless.cli.main import app

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


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_without_a_default_the_option_to_give_is_named(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    class ControlPlane:
        def post(self, path: str, body: dict[str, Any]) -> None:
            raise Refused(400, {"detail": "archive_after_days is off; give `before`"})

    monkeypatch.setattr(archive, "running_stack", lambda data: nullcontext(ControlPlane()))
    done = CliRunner().invoke(app, ["archive", *words])
    assert done.exit_code == 2
    assert "give --before, such as --before 90d" in " ".join(done.output.split())
