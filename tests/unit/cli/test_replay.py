from __future__ import annotations

import pytest

from noetl_serverless.cli.commands.replay import UNDER_WAY, _status


@pytest.mark.parametrize("status", sorted(UNDER_WAY))
def test_a_step_that_the_state_keeps_in_quarantine_is_stopped(status: str) -> None:
    assert _status({"status": status}, ended=True) == f"stopped, was {status}"
    assert _status({"status": status}, ended=False) == status


def test_a_step_that_a_cancel_cut_off_is_stopped_as_in_show_and_explain() -> None:
    assert _status({"status": "lost"}, ended=True) == "stopped"


@pytest.mark.parametrize("status", ["ok", "error", "skipped"])
def test_a_step_that_has_ended_is_shown_as_it_ended(status: str) -> None:
    assert _status({"status": status}, ended=True) == status
