"""Deciding ahead: the step that follows, or nothing where something else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.worker.drain.pipelined import CHAIN, begun, claimed

from noetl_serverless.commands.issued_command import digest_of
from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import advance
from noetl_serverless.engine.events import Event
from noetl_serverless.protocol import ClaimedCommand, Outcome
from noetl_serverless.worker.drain.speculation import Speculation, as_received


def done(command: ClaimedCommand, data: Any = None, status: Any = "done", **more: Any) -> Outcome:
    names = {"execution_id": command.execution_id, "command_id": command.command_id}
    return Outcome(**names, fence=command.fence, status=status, data=data, at=6, **more)


def start(workflow: str, runs: bool = True) -> tuple[Speculation, ClaimedCommand]:
    plan, state, issued = begun(workflow)
    command = claimed(plan, state, issued)
    speculation = Speculation.of(command, plan, "w", lambda step: runs)
    assert speculation is not None
    return speculation, command


def test_the_step_that_follows_is_ready_to_run() -> None:
    speculation, command = start(CHAIN)
    follows = speculation.next_command(command, done(command, {"n": 4}))

    assert follows is not None
    assert (follows.execution_id, follows.command_id, follows.step, follows.kind) == ("7", "b#1", "b", "step")
    assert (follows.fence, follows.delivery, follows.plan, follows.path) == (9, 1, command.plan, "t/t")
    assert follows.workload == {"limit": 2}
    # as it would have come over the wire
    steps = {"a": {"status": "ok", "data": {"n": 4}}}
    assert follows.scope == {"ctx": {"seen": [4, 1.0]}, "steps": steps}
    again = speculation.next_command(follows, done(follows, {}))
    assert again is not None
    assert again.command_id == "c#1"
    assert speculation.head == 6


def test_what_a_step_does_to_what_it_is_given_is_nothing_to_those_after_it() -> None:
    shown = '"{{ ctx.seen }}", limit: "{{ workload.limit }}"'
    third = "- {step: c, tool: {kind: noop}}"
    assert third in CHAIN
    reading = third.replace("noop", f"noop, input: {{x: {shown}}}")
    speculation, command = start(CHAIN.replace(third, reading))
    speculation.state = replace(speculation.state, workload={"limit": [2]})
    follows = speculation.next_command(command, done(command, {"n": 4}))
    assert follows is not None
    follows.scope["ctx"]["seen"].append("more")
    follows.scope["steps"]["a"]["data"]["n"] = "other"
    follows.workload["limit"].append("more")

    again = speculation.next_command(follows, done(follows, {}))

    assert again is not None
    assert (again.scope["ctx"], again.workload) == ({"seen": [4, 1.0]}, {"limit": [2]})
    assert speculation.state.outcomes["a"]["data"] == {"n": 4}


def test_its_order_is_that_of_the_control_plane() -> None:
    plan, state, issued = begun(CHAIN)
    command = claimed(plan, state, issued)
    speculation = Speculation.of(command, plan, "w", lambda step: True)
    assert speculation is not None
    follows = speculation.next_command(command, done(command, {"n": 4}))
    fact = Event(
        e.CALL_DONE,
        99,
        seq=3,
        step="a",
        generation=1,
        command_id="a#1",
        payload={"data": {"n": 4}, "bytes": 7, "meta": {}},
    )
    _, decisions = advance(plan, state, fact)

    assert follows is not None
    assert follows.order == digest_of(decisions[-1].payload)


@pytest.mark.parametrize(
    ("workflow", "status"),
    [
        ("- {step: a, tool: {kind: noop}}", "done"),
        ("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}", "error"),
        (
            "- {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}\n"
            "- {step: b, tool: {kind: noop}}\n- {step: c, tool: {kind: noop}}",
            "done",
        ),
        (
            "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n"
            '- {step: b, tool: {kind: noop}, loop: {in: "{{ [1] }}", iterator: x}}',
            "done",
        ),
        (
            "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n"
            '- {step: b, tool: {kind: noop}, loop: {in: "{{ [] }}", iterator: x}, next: {arcs: [{step: c}]}}\n'
            "- {step: c, tool: {kind: noop}}",
            "done",
        ),
        (CHAIN, "deferred"),
        (CHAIN, "parked"),
    ],
    ids=["the end", "a failure", "a fork", "a loop", "an empty loop and a step", "a delay", "a child"],
)
def test_nothing_runs_speculatively(workflow: str, status: str) -> None:
    speculation, command = start(workflow)
    assert speculation.next_command(command, done(command, {"n": 1}, status)) is None


def test_a_failure_that_is_handled_is_gone_on_from() -> None:
    speculation, command = start(
        """
        - step: a
          tool: {kind: noop}
          next: {arcs: [{step: b, when: "{{ event.name == 'call.error' }}"}, {step: c}]}
        - {step: b, tool: {kind: noop}}
        - {step: c, tool: {kind: noop}}
        """
    )
    follows = speculation.next_command(command, done(command, status="error", error={"message": "oops"}))
    assert follows is not None
    assert follows.step == "b"


def test_a_result_that_the_log_will_not_have_is_left_to_the_control_plane() -> None:
    speculation, command = start(CHAIN)
    assert speculation.next_command(command, done(command, {"n": "x" * 70_000})) is None


def test_a_step_for_others_is_left_to_them() -> None:
    speculation, command = start(CHAIN, runs=False)
    assert speculation.next_command(command, done(command, {"n": 1})) is None


def test_a_playbook_that_does_not_ask_for_it_is_not_run_speculatively() -> None:
    plan, state, issued = begun(CHAIN, "step")
    command = claimed(plan, state, issued)
    assert Speculation.of(command, plan, "w", lambda step: True) is None
    command.ahead = None
    assert Speculation.of(command, begun(CHAIN)[0], "w", lambda step: True) is None


def test_an_outcome_is_decided_on_as_it_is_sent() -> None:
    command = start(CHAIN)[1]
    assert as_received(done(command, {"pair": (1, 2), "no": float("nan"), 3: None})).data == {
        "pair": [1, 2],
        "no": None,
        "3": None,
    }


@pytest.mark.parametrize("open_work", ["commands", "timers", "children", "loops"])
def test_while_anything_else_of_the_execution_is_open_nothing_runs_speculatively(open_work: str) -> None:
    speculation, command = start(CHAIN)
    others: Any = {**getattr(speculation.state, open_work), "other#1": speculation.state.commands["a#1"]}
    speculation.state = replace(speculation.state, **{open_work: others})
    assert speculation.next_command(command, done(command, {"n": 4})) is None
