"""What is said about an option that cannot be read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["executions", "--limit", "x"], "'--limit': this must be an integer"),
        (["executions", "--limit", "0"], "'--limit': this must be at least 1"),
        (["executions", "--status", "foo"], "'--status': 'foo' is not one of 'running'"),
        (["schedule", "next", "--cron", "* * * * *", "--count", "1k"], "'--count' / '-n': this must be an integer"),
    ],
)
def test_it_says_what_the_value_must_be(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert f"Invalid value for {text}" in said
    assert "Value error" not in said
