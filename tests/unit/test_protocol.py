"""What messages refuse, so that no statement fails for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from noetl_serverless.protocol import HeartbeatRequest, ReportRequest

KEY = {"execution_id": "1", "command_id": "a#1"}
FRAME = {"start": 0, "end": 1, "ok": 1, "failed": 0}


def report(**more: Any) -> ReportRequest:
    outcome = {**KEY, "fence": 1, "status": "done", **more}
    return ReportRequest.model_validate({"worker_id": "w", "outcomes": [outcome]})


def heartbeat(fence: int) -> HeartbeatRequest:
    return HeartbeatRequest.model_validate({"worker_id": "w", "commands": [{**KEY, "fence": fence}]})


def refused(read: Any, *given: Any, **named: Any) -> bool:
    try:
        read(*given, **named)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("fence", [1 << 63, -1, 10**30])
def test_a_fence_is_one_that_the_database_could_have_given(fence: int) -> None:
    assert (refused(report, fence=fence), refused(heartbeat, fence)) == (True, True)
    assert report(fence=(1 << 63) - 1).outcomes[0].fence == heartbeat((1 << 63) - 1).commands[0].fence


@pytest.mark.parametrize("number", [1 << 31, -1])
def test_other_numbers_fit_their_columns(number: int) -> None:
    assert refused(report, count=number)
    assert refused(report, child={"path": "t/t", "version": number})
    assert [refused(report, frame={**FRAME, name: number}) for name in FRAME] == [True] * 4
    assert report(count=0, child={"path": "t/t", "version": 1}, frame=FRAME).outcomes[0].count == 0


def test_a_child_has_a_path_and_a_step_as_playbooks_have_them() -> None:
    assert refused(report, child={"path": "p" * 501})
    assert refused(report, child={"path": "t/t", "return_step": "s" * 101})
    assert not refused(report, child={"path": "p" * 500, "return_step": "s" * 100})
