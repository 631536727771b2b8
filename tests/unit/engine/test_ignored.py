"""Nothing follows from a fact that nobody waits for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import advance, reason_to_ignore
from noetl_serverless.engine.events import Event

ERROR = {"kind": "tool", "code": "boom", "message": "it broke"}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (e.CALL_DONE, {"data": {"v": 2}}),
        (e.CALL_ERROR, {"error": ERROR}),
        (e.CALL_DEFERRED, {"delay": 1.0}),
        (e.CALL_PARKED, {"child": {"path": "t/child"}}),
        # of a loop that is over
        (e.FRAME_COMMITTED, {"start": 0, "end": 1, "ok": 1, "failed": 0, "data": [1]}),
    ],
)
def test_a_command_that_is_no_longer_out_changes_nothing(kind: str, payload: dict[str, Any]) -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1})
    before = run.state
    fact = Event(kind, run.now + 1, seq=before.seq + 1, step="a", generation=1, command_id="a#1", payload=payload)
    assert reason_to_ignore(before, fact) == "the command is not open"
    assert run.fact(kind, step="a", generation=1, command_id="a#1", payload=payload) == []
    assert (run.state.commands, run.state.outcomes, run.state.tokens) == (
        before.commands,
        before.outcomes,
        before.tokens,
    )
    assert (
        reason_to_ignore(
            run.state,
            Event(kind, 0, step="b", generation=1, command_id=run.open("b"), payload=payload),
        )
        is None
    )


def test_nor_does_a_timer_that_is_not_set_or_a_child_that_nobody_waits_for() -> None:
    run = Run(CHAIN)
    before = run.state
    fired = {"timer": "a#1~1"}
    ended = {"execution_id": "9", "status": "completed", "command_id": "a#1"}
    assert (
        reason_to_ignore(before, Event(e.TIMER_FIRED, 0, step="a", generation=1, payload=fired))
        == "the timer is not set"
    )
    assert (
        reason_to_ignore(before, Event(e.CHILD_ENDED, 0, step="a", generation=1, payload=ended))
        == "the child is not waited for"
    )
    assert run.fact(e.TIMER_FIRED, step="a", generation=1, payload=fired) == []
    assert run.fact(e.CHILD_ENDED, step="a", generation=1, payload=ended) == []
    assert (run.state.commands, run.state.tokens) == (before.commands, before.tokens)


def test_an_execution_that_has_ended_does_not_begin_again() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.done("a")
    assert run.state.ended
    begun = Event(e.STARTED, run.now + 1, seq=run.state.seq + 1, payload={"entry": "a", "workload": {}})
    assert advance(run.plan, run.state, begun)[1] == []
