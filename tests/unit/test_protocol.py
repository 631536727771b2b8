"""What messages refuse, so that no statement fails for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from noetl_serverless.protocol import ClaimRequest, HeartbeatRequest, ReportRequest

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


@pytest.mark.parametrize("number", ["NaN", "Infinity", float("nan"), float("inf")])
def test_a_time_is_a_number_that_can_be_stored(number: Any) -> None:
    """Frames are cut by the time that items take: by what is no number they cannot be, or another way once stored."""
    assert (refused(report, frame={**FRAME, "item_ms": number}), refused(report, delay=number)) == (True, True)
    assert refused(report, frame={**FRAME, "item_ms": -1})
    assert report(delay=1.5, frame={**FRAME, "item_ms": 2.5}).outcomes[0].delay == 1.5


@pytest.mark.parametrize("name", ["worker_id", "pool"])
@pytest.mark.parametrize("message", [ClaimRequest, ReportRequest])
def test_a_name_holds_no_character_that_the_database_cannot_hold(name: str, message: Any) -> None:
    given = {"worker_id": "w", "outcomes": []} if message is ReportRequest else {"worker_id": "w"}
    assert refused(message.model_validate, {**given, name: "a\0b"})
    assert not refused(message.model_validate, {**given, name: "a"})


def test_a_child_has_a_path_and_a_step_as_playbooks_have_them() -> None:
    assert refused(report, child={"path": "p" * 501})
    assert refused(report, child={"path": "t/t", "return_step": "s" * 101})
    assert not refused(report, child={"path": "p" * 500, "return_step": "s" * 100})
