from __future__ import annotations

from typing import Any

from noetl_serverless.inspection.limit_text import limits_text, used_up

CALLS: dict[str, Any] = {"unit": "command", "kind": "concurrency", "key": "api", "limit": 2, "used": 2}
STARTS: dict[str, Any] = {"unit": "command", "kind": "rate", "key": "api", "per": 60.0, "limit": 3, "used": 1}


def test_only_limits_that_are_used_up_are_named() -> None:
    assert used_up([CALLS, STARTS]) == [CALLS]
    assert limits_text([CALLS, STARTS]) == "concurrency of key api: 2 of 2 commands running"


def test_a_rate_says_when_the_next_start_is() -> None:
    full = {**STARTS, "used": 3, "next_start": "2027-01-01T00:00:00Z"}
    assert limits_text([full]) == "rate of key api: 3 of 3 commands within 60 s, next start at 2027-01-01T00:00:00Z"


def test_nothing_is_said_of_limits_that_have_room() -> None:
    assert used_up([{**CALLS, "used": 0}, STARTS]) == []
    assert limits_text([{**CALLS, "used": 0}, STARTS]) == ""
