"""What stands in a decision, word for word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, CHILD, WORKFLOWS
from tests.unit.engine.run import HEAD, Run

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import MAX_WARNINGS, advance
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.ids import execution_id
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.state import State
from noetl_serverless.playbook.load import load_plan


def summary(event: Event) -> tuple[str, Any, Any, Any]:
    return event.type, event.step, event.generation, event.command_id


def test_a_command_is_issued_with_what_it_is_and_where_it_came_from() -> None:
    run = Run(CHAIN)
    assert (run.log[1].at, run.log[1].cause) == (run.log[0].at, 1)
    assert run.log[1].payload == {"kind": "step", "attempt": 1, "scope": {"ctx": {}, "steps": {}}}
    run.done("a", {"v": 1})
    issued = run.log[-1]
    assert summary(issued) == (e.ISSUED, "b", 1, "b#1")
    route = {"step": "a", "generation": 1, "event": "call.done", "set": {"x": 1}, "arcs": ["b"]}
    assert issued.payload == {"kind": "step", "attempt": 1, "scope": {"ctx": {}, "steps": {}}, "routes": [route]}


def test_an_end_carries_the_last_routes_and_the_step_whose_outcome_is_the_result() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1})
    run.done("b")
    run.done("c")
    assert summary(run.log[-1]) == (e.COMPLETED, None, None, None)
    route = {"step": "c", "generation": 1, "event": "call.done"}
    assert run.log[-1].payload == {"result_step": "c", "routes": [route]}


def test_where_nothing_begins_the_step_s_exit_carries_its_route() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    (exit_,) = run.done("left")
    assert summary(exit_) == (e.STEP_EXIT, "left", 1, None)
    assert exit_.payload == {"routes": [{"step": "left", "generation": 1, "event": "call.done", "arcs": ["join"]}]}


def test_a_delay_of_a_frame_goes_on_with_the_same_items() -> None:
    run = Run(WORKFLOWS["two loops"])
    run.done("split")
    (timer,) = run.report("one#1.1", e.CALL_DEFERRED, delay=2, resume={"items": {}})
    assert summary(timer) == (e.TIMER_SET, "one", 1, "one#1.1")
    at = run.log[-2].at
    assert timer.payload == {"timer": f"one#1.1!{run.log[-2].seq}", "due": at + 2000, "resume": {"items": {}}}
    fired = {"timer": timer.payload["timer"]}
    (again,) = run.fact(e.TIMER_FIRED, step="one", generation=1, payload=fired)
    assert summary(again) == (e.ISSUED, "one", 1, "one#1.1@2")
    frame = run.issued("one")[1].payload["frame"]
    assert again.payload == {
        "kind": "frame",
        "attempt": 2,
        "scope": {"ctx": {}, "steps": {}},
        "frame": frame,
        "resume": {"items": {}},
        **fired,
    }


def test_a_child_is_started_one_level_deeper_under_an_id_of_its_own() -> None:
    run = Run(WORKFLOWS["parent"])
    run.state = replace(run.state, depth=3)
    run.log[0].payload["depth"] = 3
    (started,) = run.report("call#1", e.CALL_PARKED, child=CHILD, resume={"task": "call"})
    assert summary(started) == (e.CHILD_STARTED, "call", 1, "call#1")
    fact = run.log[-2]
    assert started.payload == {
        "execution_id": execution_id(fact.at, f"7/call#1/{fact.seq}"),
        "depth": 4,
        "resume": {"task": "call"},
        "resumes": False,
        **CHILD,
    }


@pytest.mark.parametrize(
    ("tool", "resumes"),
    [
        ("{kind: playbook, path: t/child}", False),
        ("[{name: one, kind: playbook, path: t/child}]", False),
        ("[{name: one, kind: playbook, path: t/child}, {name: two, kind: noop}]", True),
        (
            "{kind: playbook, path: t/child, spec: {policy: {rules: [{else: {then: {do: continue}}}]}}}",
            True,
        ),
    ],
)
def test_a_worker_goes_on_if_there_is_more_to_do(tool: str, resumes: bool) -> None:
    run = Run(f"- {{step: call, tool: {tool}}}\n")
    (started,) = run.report("call#1", e.CALL_PARKED, child=CHILD)
    assert started.payload["resumes"] is resumes


def test_of_many_steps_that_took_no_arc_the_first_are_named() -> None:
    names = [f"s{n:02}" for n in range(MAX_WARNINGS + 3)]
    arcs = ", ".join(f"{{step: {name}}}" for name in names)
    lines = [f"- {{step: a, tool: {{kind: noop}}, next: {{spec: {{mode: inclusive}}, arcs: [{arcs}]}}}}"]
    never = "next: {arcs: [{step: never, when: '{{ false }}'}]}"
    lines += [f"- {{step: {name}, tool: {{kind: noop}}, {never}}}" for name in names]
    run = Run("\n".join([*lines, "- {step: never, tool: {kind: noop}}"]) + "\n")
    run.done("a")
    for name in names:
        run.done(name)
    warnings = run.log[-1].payload["warnings"]
    assert [warning["step"] for warning in warnings] == names[:MAX_WARNINGS]
    assert warnings[0] == {
        "code": "routing.no_match",
        "step": "s00",
        "message": "no arc of step 's00' was taken, and nothing came after it; if that is meant, write this at the "
        "step: next: {spec: {on_no_match: quiet}, arcs: [...]}",
    }


@pytest.mark.parametrize(
    ("workflow", "head", "error"),
    [
        (
            "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: '{{ false }}'}]}}\n"
            "- {step: b, tool: {kind: noop}}\n",
            "executor: {spec: {no_next_is_error: true}}\n",
            {
                "kind": "routing",
                "code": "routing.no_match",
                "message": "no arc of step 'a' matched, and executor.spec.no_next_is_error is set",
                "step": "a",
            },
        ),
        (
            "- {step: a, tool: {kind: noop}, next: {arcs: [{step: a}]}}\n",
            "executor: {spec: {max_turns: 1}}\n",
            {
                "kind": "routing",
                "code": "turns.exceeded",
                "message": "step 'a' began 1 times: executor.spec.max_turns allows no more",
                "retryable": False,
                "step": "a",
            },
        ),
    ],
)
def test_an_execution_that_cannot_go_on_says_why(workflow: str, head: str, error: Any) -> None:
    run = Run(workflow, head)
    run.done("a")
    assert summary(run.log[-1]) == (e.FAILED, "a", None, None)
    assert run.log[-1].payload["error"] == error == run.state.error


def test_a_step_that_fails_without_an_error_fails_all_the_same() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", e.CALL_ERROR)
    assert run.state.error == {"kind": "step", "code": "step.failed", "message": "failed", "step": "a"}


@pytest.mark.parametrize("no_next_is_error", [True, False])
def test_a_step_without_arcs_may_end_it_and_so_may_one_that_is_skipped(no_next_is_error: bool) -> None:
    head = f"executor: {{spec: {{no_next_is_error: {str(no_next_is_error).lower()}}}}}\n"
    run = Run("- {step: a, tool: {kind: noop}}\n", head)
    run.done("a")
    assert run.state.status == "completed"
    refused = "spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}"
    run = Run(
        f"- {{step: a, tool: {{kind: noop}}, {refused}, next: {{arcs: [{{step: b}}]}}}}\n"
        "- {step: b, tool: {kind: noop}}\n",
        head,
    )
    assert run.state.status == "completed"
    assert [(event.step, event.payload["reason"]) for event in run.log if event.type == e.STEP_SKIPPED] == [
        ("a", "not admitted"),
        ("b", "not taken"),
    ]


def test_what_comes_back_from_quarantine_begins_if_it_came_to_nothing() -> None:
    run = Run(CHAIN)
    kept = {"type": e.STARTED}
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea"}
    first = Event(e.STARTED, 1, seq=1, payload=run.log[0].payload)
    failed = Event(e.FAILED, 1, seq=2, payload={"error": error, e.QUARANTINED: kept})
    state = fold("7", [first, failed])
    state, decisions = advance(run.plan, state, Event(e.RETRIED, 2, seq=3, payload={"seq": 2}))
    assert [summary(event) for event in decisions] == [(e.ISSUED, "a", 1, "a#1")]
    assert (state.status, state.error) == ("running", None)
    apart = fold("7", [*run.log, replace(failed, seq=3)])
    state, decisions = advance(run.plan, apart, Event(e.RETRIED, 2, seq=4, payload={"seq": 3}))
    assert (decisions, list(state.commands)) == ([], ["a#1"]), "what is under way goes on by itself"


def test_without_a_word_on_it_the_workload_is_empty() -> None:
    plan = load_plan(
        HEAD + "workflow:\n  - {step: a, tool: {kind: noop}, set: {ctx.x: \"{{ workload.x | default('none') }}\"}}\n"
    )
    state = State("7")
    assert state.workload == {}
    started = Event(e.STARTED, 1, seq=1, payload={"entry": "a", "plan": plan.hash})
    done = Event(e.CALL_DONE, 2, seq=3, step="a", generation=1, command_id="a#1", payload={"data": 1})
    for fact in (started, done):
        state, _ = advance(plan, state, fact)
    assert state.ctx == {"x": "none"}


def test_an_error_of_a_value_is_not_worth_a_retry() -> None:
    run = Run("- {step: a, tool: {kind: noop}, set: {ctx.x: \"{{ 'x' * 100000 }}\"}}\n")
    run.done("a")
    error = run.failure
    assert (error["kind"], error["code"], error["retryable"], error["step"]) == ("value", "value.invalid", False, "a")


def test_a_step_that_two_ends_of_one_decision_leave_aside_is_skipped_once() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: aside, when: "{{ false }}"}, {step: nothing}]}}
        - step: nothing
          loop: {in: "{{ [] }}", iterator: x}
          tool: {kind: noop}
          next: {arcs: [{step: aside, when: "{{ false }}"}, {step: last}]}
        - {step: aside, tool: {kind: noop}, next: {arcs: [{step: behind}]}}
        - {step: behind, tool: {kind: noop}}
        - {step: last, tool: {kind: noop}}
        """
    )
    run.done("a")
    assert run.running == {"last"}
    assert run.skipped() == ["aside", "behind"]


def test_an_admission_that_cannot_be_evaluated_fails_the_execution() -> None:
    run = Run(WORKFLOWS["admission"].replace("a.v > 100", "a.gone > 100"))
    run.done("a", {"v": 1})
    error = run.failure
    assert (run.state.status, error["code"], error["name"], error["step"]) == ("failed", "template.error", "gone", "b")
    assert run.skipped() == []


def test_what_a_step_reads_may_be_too_large_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = """
        - {step: a, tool: {kind: noop}, set: {ctx.x: "{{ output.data }}"}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}
        """
    run = Run(flow)
    run.done("a", "x" * 1000)
    run.report("b#1", e.CALL_DEFERRED, delay=1)
    (timer,) = run.state.timers
    monkeypatch.setattr(limits, "SCOPE_BYTES", 500)
    (failed,) = run.fact(e.TIMER_FIRED, step="b", generation=1, payload={"timer": timer})
    assert (failed.type, failed.payload["error"]["code"]) == (e.FAILED, "value.invalid")


def test_so_may_what_a_loop_reads_when_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = """
        - {step: a, tool: {kind: noop}, set: {ctx.x: "{{ output.data }}"}, next: {arcs: [{step: each}]}}
        - {step: each, loop: {in: "{{ [1] }}", iterator: i}, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}
        """
    run = Run(flow)
    monkeypatch.setattr(limits, "SCOPE_BYTES", 500)
    run.done("a", "x" * 1000)
    assert run.types()[-2:] == [e.CALL_DONE, e.FAILED]
    assert run.failure["step"] == "each"
