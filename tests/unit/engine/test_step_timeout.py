"""The time that one run of a step has in all."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.playbook.load import load_plan

from .run import HEAD, Run

TIMED = """
- step: a
  spec: {policy: {lifecycle: {timeout: 60}}}
  tool: {kind: noop}
  next: {arcs: [{step: b, when: "{{ event.name == 'step.failed' }}"}, {step: c}]}
- {step: b, tool: {kind: noop, input: {why: "{{ a.error.code }}"}}}
- {step: c, tool: {kind: noop}}
"""
LOOP = """
- step: a
  spec: {policy: {lifecycle: {timeout: 60}, failure: {mode: best_effort}}}
  loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2, policy: {exec: distributed}}}
  tool: {kind: noop}
  next: {arcs: [{step: b, when: "{{ event.name == 'loop.failed' }}"}, {step: c}]}
- {step: b, tool: {kind: noop, input: {n: "{{ a | length }}"}}}
- {step: c, tool: {kind: noop}}
"""
CHILD = """
- step: a
  spec: {policy: {lifecycle: {timeout: 60}}}
  tool: {kind: playbook, path: x/y}
"""
TWO = """
- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}]}}
- {step: a, spec: {policy: {lifecycle: {timeout: 60}}}, tool: {kind: noop}}
- {step: b, tool: {kind: noop}}
"""


def is_over(run: Run, step: str = "a", generation: int = 1) -> list[Event]:
    """The time of the step's run is over."""
    payload = {"timer": e.step_deadline(f"{step}#{generation}")}
    return run.fact(e.TIMER_FIRED, step=step, generation=generation, payload=payload)


def test_its_time_begins_with_the_step() -> None:
    run = Run(TIMED)
    (timer_set,) = [event for event in run.log if event.type == e.TIMER_SET]
    assert timer_set.payload == {"timer": "a#1!deadline", "due": run.log[0].at + 60_000, "timeout": 60}
    assert (timer_set.step, timer_set.generation, timer_set.command_id) == ("a", 1, None)
    assert run.running == {"a"}


def test_a_step_that_ends_in_time_needs_its_timer_no_more() -> None:
    run = Run(TIMED)
    run.done("a")
    assert (run.running, run.state.timers) == ({"c"}, {})
    assert is_over(run) == []
    run.done("c")
    assert run.state.status == "completed"


def test_when_its_time_is_over_it_has_failed_and_its_command_is_not_waited_for() -> None:
    run = Run(TIMED)
    command = run.open("a")
    timed_out, issued, _ = is_over(run)
    assert (timed_out.type, timed_out.payload["error"]["code"]) == (e.STEP_TIMED_OUT, "step.timeout")
    assert (issued.type, issued.step) == (e.ISSUED, "b")
    assert (run.state.outcomes["a"]["status"], run.running, run.state.timers) == ("error", {"b"}, {})
    assert run.fact(e.CALL_DONE, step="a", generation=1, command_id=command, payload={"data": 1}) == []
    assert run.state.outcomes["a"]["status"] == "error", "its report came too late"
    run.done("b")
    assert run.state.status == "completed"


def test_an_execution_fails_with_it_where_no_arc_handles_it() -> None:
    run = Run(TWO)
    run.done("start")
    is_over(run)
    assert (run.state.status, run.failure["code"], run.failure["step"]) == ("failed", "step.timeout", "a")


def test_a_retry_that_waits_is_not_waited_for() -> None:
    run = Run(TIMED)
    run.report("a#1", e.CALL_DEFERRED, delay=3600)
    assert len(run.state.timers) == 2
    is_over(run)
    assert (run.running, run.state.timers) == ({"b"}, {})


def test_a_sub_playbook_is_not_waited_for() -> None:
    run = Run(CHILD)
    run.report("a#1", e.CALL_PARKED, child={"path": "x/y", "version": 1, "plan_hash": "h", "payload": {}})
    (child,) = run.state.children
    is_over(run)
    assert (run.state.status, run.failure["code"]) == ("failed", "step.timeout")
    ended = {"execution_id": child, "resumes": False, "status": "ok", "data": 1}
    assert run.fact(e.CHILD_ENDED, step="a", generation=1, payload=ended) == []


def test_a_loop_ends_with_what_it_has_by_then() -> None:
    run = Run(LOOP)
    run.frame("a#1.0", ["one"])
    timed_out, done, issued, _ = is_over(run)
    assert [timed_out.type, done.type, issued.type] == [e.STEP_TIMED_OUT, e.LOOP_DONE, e.ISSUED]
    assert (done.payload["status"], done.payload["error"]["code"]) == ("error", "step.timeout")
    assert done.payload["stats"] == {"total": 3, "success": 1, "failed": 0}
    assert run.state.outcomes["a"]["data"]["results"] == ["one"]
    assert (run.running, run.state.loops) == ({"b"}, {}), "it goes on with further items"


def test_each_run_of_a_step_has_its_own_time() -> None:
    run = Run(
        """
        - step: a
          spec: {policy: {lifecycle: {timeout: 60}}}
          tool: {kind: noop}
          set: {ctx.n: "{{ (ctx.n | default(0)) + 1 }}"}
          next: {arcs: [{step: a, when: "{{ ctx.n < 3 }}"}]}
        """
    )
    run.done("a")
    assert list(run.state.timers) == ["a#2!deadline"]
    assert is_over(run) == [], "the time of the run before ends this one"
    is_over(run, generation=2)
    assert run.failure["code"] == "step.timeout"


def test_a_skipped_step_has_no_time() -> None:
    run = Run(
        TIMED.replace(
            "{lifecycle:",
            "{admit: {rules: [{when: false, then: {allow: true}}, {else: {then: {allow: false}}}]}, lifecycle:",
        )
    )
    assert e.TIMER_SET not in run.types()


@pytest.mark.parametrize("workflow", [TIMED, LOOP, CHILD, TWO])
def test_the_older_release_reads_the_log_up_to_there(workflow: str) -> None:
    """All but the end of the time is written in events that it knows."""
    run = Run(workflow)
    known = e.FACTS | e.DECISIONS - {e.STEP_TIMED_OUT}
    assert {event.type for event in run.log} <= known


def test_the_state_does_not_depend_on_the_playbook() -> None:
    run = Run(LOOP)
    is_over(run)
    again: Any = fold("7", run.log, run.state.workload)
    assert again.outcomes == run.state.outcomes


@pytest.mark.parametrize(("written", "seconds"), [("60", 60), ("1.5", 1.5), ("500ms", 0.5), ("2h", 7200)])
def test_it_is_written_in_seconds_or_with_units(written: str, seconds: float) -> None:
    text = (
        HEAD
        + f"workflow:\n- {{step: a, tool: {{kind: noop}}, spec: {{policy: {{lifecycle: {{timeout: {written}}}}}}}}}"
    )
    plan = load_plan(text)
    assert (plan.steps["a"].timeout, plan.has_step_timeouts) == (seconds, True)
