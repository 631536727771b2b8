"""`noetls signal` and `noetls approve`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.main import app


@pytest.mark.parametrize("command", ["signal", "approve"])
@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_no_signal_can_have_is_refused_before_it_is_sent(command: str, name: str) -> None:
    done = CliRunner().invoke(app, [command, "7", name])
    assert done.exit_code == 2
    assert "the name of a signal has 1 to 200 characters" in " ".join(done.output.split())
