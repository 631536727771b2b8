"""Whether a callback URL may still be answered."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine.state import Signal, State
from noetl_serverless.orchestrator.callbacks import CallbackAnswered, CallbackOver, check_open

DECISION = {"approved": True}


def state(*sent: Any, ended: int = 0) -> State:
    """With signals that are kept, by their data, and of a count of waits that have ended."""
    return State("1", signals=tuple(Signal("boss", data) for data in sent), ended_waits={"boss": ended})


@pytest.mark.parametrize(("approval", "data"), [(True, DECISION), (False, DECISION), (False, "anything")])
def test_what_is_kept_for_its_wait_is_its_answer(approval: bool, data: Any) -> None:
    with pytest.raises(CallbackAnswered):
        check_open(state(data), "boss", 0, approval=approval)
    check_open(state(), "boss", 0, approval=approval)


def test_what_is_no_decision_answers_no_approval() -> None:
    check_open(state("junk", {"approved": "yes"}), "boss", 0, approval=True)
    with pytest.raises(CallbackAnswered):
        check_open(state("junk", DECISION), "boss", 0, approval=True)


def test_it_is_over_once_its_wait_has_ended() -> None:
    with pytest.raises(CallbackOver):
        check_open(state(ended=1), "boss", 0, approval=True)
    check_open(state(ended=1), "boss", 1, approval=True)
