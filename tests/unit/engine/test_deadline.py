"""The time that a whole execution has."""

from __future__ import annotations

from noetl_serverless.engine import events as e

from .plays import CHAIN
from .run import Run


def timed(workflow: str = CHAIN, seconds: float = 60) -> Run:
    return Run(workflow, started={"timeout": seconds})


def test_it_is_set_when_the_execution_starts() -> None:
    run = timed(seconds=1.5)
    (timer_set,) = [event for event in run.log if event.type == e.TIMER_SET]
    assert timer_set.payload == {"timer": "deadline", "due": run.log[0].at + 1500, "timeout": 1.5}
    assert (timer_set.step, timer_set.command_id) == ("a", None)
    assert run.running == {"a"}


def test_an_execution_without_a_timeout_sets_no_timer() -> None:
    assert not Run(CHAIN).state.timers


def test_the_execution_fails_when_it_is_over() -> None:
    run = timed()
    run.done("a", {"v": 1})
    (failed,) = run.fact(e.TIMER_FIRED, step="a", generation=0, payload={"timer": "deadline"})
    assert (failed.type, failed.payload["error"]["code"]) == (e.FAILED, "execution.timeout")
    assert not (run.state.commands or run.state.timers or run.state.waiting)


def test_one_that_ended_in_time_is_not_failed() -> None:
    run = timed()
    run.done("a", {"v": 0})
    run.done("b")
    run.done("d")
    assert run.state.status == "completed"
    assert run.fact(e.TIMER_FIRED, step="a", generation=0, payload={"timer": "deadline"}) == []
    assert run.state.status == "completed"


def test_what_waits_goes_on_as_without_it() -> None:
    run = timed()
    run.report("a#1", e.CALL_DEFERRED, delay=1)
    deadline, delay = run.state.timers
    assert deadline == "deadline"
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": delay})
    assert run.running == {"a"}
