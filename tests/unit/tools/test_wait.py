"""What a wait requests, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.limits import LATEST_MS
from noetl_serverless.protocol import WaitRequest
from noetl_serverless.testing.tools import tool_context
from noetl_serverless.tools.port import ToolCall, ToolOutcome
from noetl_serverless.tools.wait import Wait


def run(tmp_path: Path, **config: Any) -> ToolOutcome:
    return asyncio.run(Wait().run(ToolCall("wait", "hold", config, timeout=3.0), tool_context(tmp_path)))


@pytest.mark.parametrize(
    ("config", "request_"),
    [
        ({"until": "2027-01-31T09:00:00+01:00"}, WaitRequest(due=1_801_382_400_000)),
        ({"until": "1969-12-31T00:00:00Z"}, WaitRequest(due=0)),
        ({"until": "0001-01-01T00:00:00+14:00"}, WaitRequest(due=0)),
        ({"until": "8999-12-31T23:59:59Z"}, WaitRequest(due=LATEST_MS - 999)),
        ({"for": "1h30m"}, WaitRequest(delay=5400.0)),
        ({"for": 0}, WaitRequest(delay=0.0)),
        ({"signal": "paid"}, WaitRequest(signal="paid")),
        ({"signal": "paid", "within": "3d"}, WaitRequest(signal="paid", timeout=259_200.0)),
        ({"approval": "manager"}, WaitRequest(signal="manager", approval=True)),
    ],
)
def test_it_requests_what_its_configuration_says(tmp_path: Path, config: dict[str, Any], request_: WaitRequest) -> None:
    assert run(tmp_path, **config).wait == request_


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "needs one of until, for, signal, approval"),
        ({"until": None}, "needs one of until, for, signal, approval: 'until' is null"),
        ({"for": 1, "signal": "x"}, "not for and signal"),
        ({"for": 1, "within": 1}, "'within' is for a signal or an approval"),
        ({"for": -1}, "at least 0"),
        ({"for": "soon"}, "is not a time"),
        ({"for": True}, "true is not a time"),
        ({"signal": "x", "within": False}, "false is not a time"),
        ({"for": 1e12}, "at most 3660 days"),
        ({"until": "2027-01-31T09:00:00"}, "has no offset from UTC"),
        ({"until": "tomorrow"}, "give an instant such as"),
        ({"until": 0}, "give an instant such as 2027-01-31T09:00:00+01:00, not a number"),
        ({"until": 1_800_000_000.5}, "not a number"),
        ({"until": True}, "not a number"),
        ({"until": "1800000000"}, "give an instant such as"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "lies after the year 8999"),
        ({"until": "8999-12-31T23:59:59-00:01"}, "lies after the year 8999"),
        ({"signal": ""}, "must not be empty"),
        ({"signal": "a/b"}, "should match pattern"),
        ({"signal": "x", "within": 0}, "more than 0"),
        ({"sginal": "x"}, "needs one of"),
    ],
)
def test_it_refuses_what_is_no_wait(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    outcome = run(tmp_path, **config)
    assert outcome.error is not None
    assert outcome.error["code"] == "wait.config"
    assert says in outcome.error["message"]
