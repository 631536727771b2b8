"""What holds on a host that says nothing else."""

from __future__ import annotations

import pytest

from noetl_serverless.settings import Settings


def test_what_has_ended_is_deleted_after_ninety_days_unless_a_host_chooses_otherwise() -> None:
    assert Settings.from_environment({}).retention_days == 90
    assert Settings.from_environment({"NOETL_RETENTION_DAYS": "0"}).retention_days == 0


def test_a_variable_that_does_not_parse_is_named() -> None:
    with pytest.raises(ValueError, match="NOETL_RETENTION_DAYS='never'"):
        Settings.from_environment({"NOETL_RETENTION_DAYS": "never"})
