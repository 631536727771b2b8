"""Timers and sub-playbooks: what gives the worker back and goes on later."""

from __future__ import annotations

from tests.unit.engine.run import Run

CHILD = {"path": "t/child", "version": 1, "payload": {}, "return_step": None, "catalog_id": "1", "plan_hash": "h"}
PARENT = """
    - {step: call, tool: {kind: playbook, path: t/child}, next: {arcs: [{step: after}]}}
    - {step: after, tool: {kind: python, input: {v: "{{ call.v }}"}, code: "result = v"}}
    """


def test_a_deferred_command_waits_for_its_timer_and_goes_on_where_it_was() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", "call.deferred", delay=60, resume={"task": "a", "attempt": 2})
    assert not run.state.commands
    (timer,) = run.state.timers
    due = next(event for event in run.log if event.type == "timer.set")
    assert due.payload["due"] == due.at + 60_000
    assert run.state.status == "running"
    run.fact("timer.fired", step="a", generation=1, payload={"timer": timer})
    assert run.issued("a")[1].payload["resume"] == {"task": "a", "attempt": 2}
    run.fact("timer.fired", step="a", generation=1, payload={"timer": timer})
    assert len(run.issued("a")) == 2, "a timer fires once"
    run.done("a")
    assert run.state.status == "completed"


def test_a_fraction_of_a_second_is_waited_for_too() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", "call.deferred", delay=1.25)
    due = next(event for event in run.log if event.type == "timer.set")
    assert due.payload["due"] == due.at + 1250


def test_a_sub_playbook_parks_its_step_until_it_ends() -> None:
    run = Run(PARENT)
    run.report("call#1", "call.parked", child=CHILD)
    assert not run.state.commands
    (child,) = run.state.children
    assert run.state.tokens["call#1"].phase == "parked"
    run.fact(
        "child.ended",
        step="call",
        generation=1,
        payload={"execution_id": child, "resumes": False, "status": "ok", "data": {"v": 3}},
    )
    assert run.running == {"after"}
    assert run.state.outcomes["call"] == {"status": "ok", "data": {"v": 3}}


def test_a_parent_resumes_once() -> None:
    run = Run(PARENT)
    run.report("call#1", "call.parked", child=CHILD)
    (child,) = run.state.children
    ended = {"execution_id": child, "resumes": False, "status": "ok", "data": {"v": 3}}
    run.fact("child.ended", step="call", generation=1, payload=ended)
    run.fact("child.ended", step="call", generation=1, payload=ended)
    assert len(run.issued("after")) == 1


def test_a_failed_child_fails_its_step() -> None:
    run = Run(PARENT)
    run.report("call#1", "call.parked", child=CHILD)
    (child,) = run.state.children
    error = {"kind": "playbook", "code": "child.failed", "message": "it broke"}
    payload = {"execution_id": child, "resumes": False, "status": "error", "error": error}
    run.fact("child.ended", step="call", generation=1, payload=payload)
    assert run.state.status == "failed"
    assert run.failure["code"] == "child.failed"


def test_a_pipeline_goes_on_in_a_worker_after_its_child() -> None:
    run = Run(
        """
        - step: both
          tool:
            - {name: one, kind: playbook, path: t/child}
            - {name: two, kind: python, input: {v: "{{ one.v }}"}, code: "result = v"}
        """
    )
    run.report("both#1", "call.parked", child=CHILD, resume={"task": "one"})
    started = next(event for event in run.log if event.type == "child.started")
    assert started.payload["resumes"] is True
    (child,) = run.state.children
    payload = {"execution_id": child, "resumes": True, "status": "ok", "data": {"v": 3}}
    run.fact("child.ended", step="both", generation=1, payload=payload)
    resume = run.issued("both")[1].payload["resume"]
    assert resume == {"task": "one", "child": {"status": "ok", "data": {"v": 3}, "execution_id": child}}
    run.done("both", {"v": 3})
    assert run.state.status == "completed"


def test_a_loop_over_sub_playbooks_waits_for_each() -> None:
    run = Run(
        """
        - step: each
          loop: {in: "{{ [1, 2, 3] }}", iterator: x, spec: {mode: parallel, max_in_flight: 2}}
          tool: {kind: playbook, path: t/child, input: {x: "{{ iter.x }}"}}
        """
    )
    for command in list(run.state.commands):
        run.report(command, "call.parked", child=CHILD, resume={})
    assert len(run.state.children) == 2
    assert not run.state.commands, "a parked item still counts as in flight"
    for child in list(run.state.children):
        run.fact("child.ended", step="each", generation=1, payload={"execution_id": child, "status": "ok", "data": 1})
    for command in list(run.state.commands):
        run.frame(command, [1])
    (last,) = run.state.commands
    run.frame(last, [1])
    assert run.state.status == "completed"
    assert run.state.outcomes["each"]["data"]["results"] == [1, 1, 1]


def test_ids_are_derived_from_the_decision() -> None:
    runs = [Run(PARENT) for _ in range(2)]
    for run in runs:
        run.report("call#1", "call.parked", child=CHILD)
    assert list(runs[0].state.children) == list(runs[1].state.children)
