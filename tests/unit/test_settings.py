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


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PYTHON_PROCESSES", "0", "expected 1 or more"),
        ("MAX_IN_FLIGHT", "-3", "expected 1 or more"),
        ("LEASE", "0", "expected 1 or more"),
        ("LEASE", "nan", "expected 1 or more"),
        ("RETENTION_DAYS", "-1", "expected 0 or more"),
        ("RETENTION_DAYS", "36501", "expected 36500 or less"),
        ("ARCHIVE_AFTER_DAYS", "inf", "expected 36500 or less"),
        ("RESULT_TTL_DAYS", "1e12", "expected 36500 or less"),
        ("RESULT_TTL_DAYS", "nan", "expected 0 or more"),
        ("TOKEN_DAYS", "1e12", "expected 36500 or less"),
        ("SHARED_MEMORY_LEASE", "1e300", "expected 86400 or less"),
        ("LOG_LEVEL", "LOUD", "expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("NOTIFY", "maybe", "expected true or false"),
    ],
)
def test_a_variable_with_a_value_that_nothing_can_work_with_is_named(name: str, value: str, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"^NOETL_{name}={value!r}: {expected}$"):
        Settings.from_environment({f"NOETL_{name}": value})
