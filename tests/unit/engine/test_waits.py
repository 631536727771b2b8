"""Waits until a time, for a signal and for an approval: what they give back, and what ends them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine import evolve_waits
from noetl_serverless.engine.decide import reason_to_ignore
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import State
from noetl_serverless.limits import SIGNAL_IDS

WAIT = """
    - step: hold
      tool: {kind: wait, signal: paid}
      next:
        arcs:
          - {step: failed, when: "{{ error is defined and error }}"}
          - {step: after}
    - {step: after, tool: {kind: python, input: {v: "{{ hold.data }}"}, code: "result = v"}}
    - {step: failed, tool: {kind: noop}}
    """
PIPELINE = """
    - step: hold
      tool:
        - {name: ask, kind: noop}
        - {name: answer, kind: wait, signal: paid}
    """


def signal(run: Run, name: str = "paid", **payload: Any) -> list[Event]:
    return run.fact(e.SIGNAL_RECEIVED, payload={"signal": name, **payload})


def park(run: Run, command: str = "hold#1", **request: Any) -> list[Event]:
    return run.report(command, e.CALL_PARKED, wait=request, resume={"task": "answer"})


def test_a_signal_ends_the_wait_for_its_name_and_is_its_result() -> None:
    run = Run(WAIT)
    park(run, signal="paid")
    assert (run.running, run.state.tokens["hold#1"].phase) == (set(), "parked")
    signal(run, "other", data=1)
    assert run.running == set(), "a signal of another name ended the wait"
    signal(run, data={"sum": 7})
    assert run.running == {"after"}
    assert run.state.outcomes["hold"] == {"status": "ok", "data": {"sum": 7}}
    assert [kept.name for kept in run.state.signals] == ["other"]


@pytest.mark.parametrize("early", [True, False])
def test_an_approval_says_who_gave_it_which_is_not_for_its_sender_to_say(early: bool) -> None:
    run = Run(WAIT)
    ada = {"kind": "user", "name": "ada"}
    if not early:
        park(run, signal="paid", approval=True)
    signal(run, data={"approved": False, "by": "the boss"}, by=ada)
    signal(run, data={"approved": True}, by=ada)
    if early:
        park(run, signal="paid", approval=True)
    assert run.state.outcomes["hold"]["data"] == {"approved": True, "by": ada}


def test_who_sent_a_signal_is_not_part_of_its_data() -> None:
    run = Run(WAIT)
    park(run, signal="paid")
    signal(run, data={"sum": 7}, by={"kind": "user", "name": "ada"})
    assert run.state.outcomes["hold"]["data"] == {"sum": 7}


def test_a_signal_that_comes_before_its_wait_is_kept_for_it() -> None:
    run = Run(WAIT)
    signal(run, data=1)
    signal(run, data=2)
    park(run, signal="paid", timeout=60)
    assert run.state.outcomes["hold"]["data"] == 1, "the first signal is taken first"
    assert [kept.data for kept in run.state.signals] == [2], "a wait took more than one signal"
    assert e.TIMER_SET not in run.types(), "a timer was set for a wait that is over"


def test_a_signal_with_an_id_that_came_before_counts_once() -> None:
    run = Run(WAIT)
    signal(run, id="x1", data=1)
    again = Event(e.SIGNAL_RECEIVED, run.now, payload={"signal": "paid", "id": "x1", "data": 1})
    assert reason_to_ignore(run.state, again) == "the signal was received before"
    park(run, signal="paid")
    assert reason_to_ignore(run.state, again) == "the signal was received before", "its id was forgotten with its end"


def test_no_number_of_other_signals_makes_an_answer_by_a_callback_new() -> None:
    run = Run(WAIT)
    by = {"kind": "callback", "name": "boss"}
    signal(run, id="callback:1", by=by, data=1)
    park(run, signal="paid")
    for number in range(SIGNAL_IDS + 1):
        signal(run, "other", id=f"x{number}")

    def is_ignored(id: str, by: dict[str, str]) -> bool:
        again = Event(e.SIGNAL_RECEIVED, run.now, payload={"signal": "paid", "id": id, "by": by})
        return reason_to_ignore(run.state, again) is not None

    assert is_ignored("callback:1", by)
    assert not is_ignored("callback:1", {**by, "name": "deputy"}), "another callback has answered"
    assert not is_ignored("callback:2", by), "it is that of another round"
    assert not is_ignored("callback:1", {"kind": "user", "name": "ada"}), "a user's key is no answer by a callback"
    stored = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert State.restore(stored, {}).callback_ids == {"boss": "callback:1"}


def test_each_signal_ends_the_wait_that_began_first() -> None:
    run = Run(
        """
        - step: hold
          loop: {in: [a, b, c], iterator: item, spec: {mode: parallel, max_in_flight: 3}}
          tool: {kind: wait, signal: paid}
        """
    )
    for command in sorted(run.state.commands):
        park(run, command, signal="paid")
    signal(run, data="first")
    (order,) = [event for event in run.log if event.type == e.ISSUED and "resume" in event.payload]
    assert (order.payload["frame"][1], order.payload["resume"]["child"]) == (0, {"status": "ok", "data": "first"})
    assert (len(run.state.waits), run.state.signals) == (2, ()), "it may end another wait"
    signal(run, data="second")
    later = [event for event in run.log if event.type == e.ISSUED and "resume" in event.payload][-1]
    assert (later.payload["frame"][1], later.payload["resume"]["child"]["data"]) == (1, "second")


def test_a_wait_in_a_pipeline_goes_on_in_a_worker() -> None:
    run = Run(PIPELINE)
    park(run, signal="paid")
    signal(run, data=[1])
    assert run.issued("hold")[1].payload["resume"] == {"task": "answer", "child": {"status": "ok", "data": [1]}}


@pytest.mark.parametrize(("request_", "due"), [({"delay": 90.5}, 90_500), ({"due": 1_800_000_500_000}, None)])
def test_a_wait_for_a_time_ends_with_its_timer(request_: dict[str, Any], due: int | None) -> None:
    run = Run(WAIT)
    started = park(run, **request_)
    (timer,) = [event for event in started if event.type == e.TIMER_SET]
    assert timer.payload["due"] == (timer.at + due if due is not None else 1_800_000_500_000)
    run.fact(e.TIMER_FIRED, step="hold", generation=1, payload={"timer": timer.payload["timer"]})
    assert run.state.outcomes["hold"] == {"status": "ok"}
    assert run.running == {"after"}


# 1: the instant of the report
@pytest.mark.parametrize("request_", [{"due": 0}, {"due": 1}, {"delay": 0}])
@pytest.mark.parametrize("workflow", [WAIT, PIPELINE])
def test_a_wait_until_an_instant_in_the_past_ends_where_it_begins(workflow: str, request_: dict[str, Any]) -> None:
    run = Run(workflow)
    request_ = {"due": run.now + 1} if request_.get("due") else request_
    types = [event.type for event in park(run, **request_)]
    assert types[:2] == [e.WAIT_STARTED, e.WAIT_ENDED] and e.TIMER_SET not in types, types
    assert not run.state.waits and not run.state.timers
    if workflow == WAIT:
        assert (run.state.outcomes["hold"], run.running) == ({"status": "ok"}, {"after"})
    else:
        assert run.issued("hold")[1].payload["resume"] == {"task": "answer", "child": {"status": "ok"}}


def test_a_signal_has_its_time_even_if_that_is_none() -> None:
    run = Run(WAIT)
    assert [event.type for event in park(run, signal="paid", timeout=0)] == [e.WAIT_STARTED, e.TIMER_SET]


def test_a_signal_that_does_not_come_in_time_fails_the_step_which_the_playbook_may_handle() -> None:
    run = Run(WAIT)
    (_, timer) = park(run, signal="paid", timeout=60)
    fired = {"timer": timer.payload["timer"]}
    run.fact(e.TIMER_FIRED, step="hold", generation=1, payload=fired)
    error = run.state.outcomes["hold"]["error"]
    assert (error["code"], error["at"]) == ("wait.timeout", 7)
    assert run.running == {"failed"}
    signal(run, data="late")
    assert [kept.data for kept in run.state.signals] == ["late"]
    assert reason_to_ignore(run.state, Event(e.TIMER_FIRED, 0, payload=fired)) == "the timer is not set"


def test_an_approval_that_is_not_given_fails_its_wait() -> None:
    run = Run(WAIT)
    park(run, signal="paid", approval=True)
    signal(run, data={"approved": False, "comment": "too dear"})
    outcome = run.state.outcomes["hold"]
    assert (outcome["status"], outcome["error"]["code"]) == ("error", "wait.rejected")
    assert outcome["error"]["message"].endswith(": too dear")
    assert outcome["data"] == {"approved": False, "comment": "too dear"}


NO_DECISIONS = [{"approved": "yes"}, {"approved": True, "paid": 7}, {"approved": True, "comment": 7}, "approved", None]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("data", NO_DECISIONS)
def test_what_is_no_decision_decides_nothing_and_stays_kept(data: Any, early: bool) -> None:
    run = Run(WAIT)
    if early:
        signal(run, data=data)
    park(run, signal="paid", approval=True)
    if not early:
        signal(run, data=data)
    assert (len(run.state.waits), [kept.data for kept in run.state.signals]) == (1, [data])
    signal(run, data={"approved": True})
    assert run.state.outcomes["hold"] == {"status": "ok", "data": {"approved": True}}
    assert [kept.data for kept in run.state.signals] == [data], "it was taken with the decision, or in its place"


def test_what_an_approval_does_not_take_ends_a_later_wait_for_a_signal() -> None:
    run = Run(
        """
        - step: hold
          loop: {in: [a, b, c], iterator: item, spec: {mode: parallel, max_in_flight: 3}}
          tool: {kind: wait, signal: paid}
        """
    )
    first, second, third = sorted(run.state.commands)
    park(run, first, signal="paid", approval=True)
    park(run, second, signal="paid")
    signal(run, data=7)
    (wait,) = run.state.waits.values()
    assert (wait.approval, run.state.signals) == (True, ())
    signal(run, data={"approved": True})
    assert (run.state.waits, run.state.signals) == ({}, ())
    signal(run, data=8)
    signal(run, data={"approved": False})
    park(run, third, signal="paid", approval=True)
    assert (run.state.waits, [kept.data for kept in run.state.signals]) == ({}, [8])


def test_an_approval_is_the_result_of_its_wait() -> None:
    run = Run(WAIT)
    park(run, signal="paid", approval=True)
    signal(run, data={"approved": True, "comment": "fine"})
    assert run.state.outcomes["hold"] == {"status": "ok", "data": {"approved": True, "comment": "fine"}}


def test_the_state_knows_when_an_approval_was_decided_and_by_whom() -> None:
    run = Run(WAIT)
    park(run, signal="paid", approval=True)
    assert run.state.answered == {}
    by = {"kind": "callback", "name": "boss", "id": "x" * 64}
    (ended,) = [each for each in signal(run, data={"approved": True}, by=by) if each.type == e.WAIT_ENDED]
    assert run.state.answered == {"paid": {"at": ended.at, "by": {"kind": "callback", "name": "boss"}}}
    assert run.state.version == 2, "the release before does not know of it"
    stored = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert State.restore(stored, {}).answered == run.state.answered
    run.done("after")
    assert (run.state.answered, run.state.version) == ({}, 1)


def test_it_knows_nothing_of_the_kind_of_a_signal_or_a_wait_that_ran_out_of_time() -> None:
    run = Run(WAIT)
    park(run, signal="paid")
    signal(run, data={"approved": True})
    assert run.state.answered == {}
    run = Run(WAIT)
    (_, timer) = park(run, signal="paid", approval=True, timeout=60)
    run.fact(e.TIMER_FIRED, step="hold", generation=1, payload={"timer": timer.payload["timer"]})
    assert run.state.answered == {}


def test_it_knows_of_the_approvals_that_were_decided_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve_waits, "ANSWERED_APPROVALS", 2)
    run = Run(
        """
        - step: hold
          loop: {in: [a, b, c, d], iterator: item, spec: {mode: parallel, max_in_flight: 4}}
          tool: {kind: wait, approval: paid}
        """
    )
    for command, name in zip(sorted(run.state.commands), ("a", "b", "a", "c"), strict=True):
        park(run, command, signal=name, approval=True)
        signal(run, name, data={"approved": True})
    assert list(run.state.answered) == ["a", "c"]


def test_a_step_that_runs_out_of_time_waits_no_more() -> None:
    run = Run(WAIT.replace("signal: paid}", "signal: paid}\n      spec: {policy: {lifecycle: {timeout: 5}}}"))
    park(run, signal="paid")
    run.fact(e.TIMER_FIRED, step="hold", generation=1, payload={"timer": e.step_deadline("hold#1")})
    assert not run.state.waits
    assert run.state.outcomes["hold"]["error"]["code"] == "step.timeout"


def test_a_state_with_a_wait_or_a_signal_is_not_for_the_release_before() -> None:
    run = Run(WAIT)
    assert run.state.version == 1
    signal(run, "other")
    assert run.state.version == 2
    run = Run(WAIT)
    park(run, signal="paid")
    assert run.state.version == 2
    signal(run)
    run.done("after")
    assert (run.state.status, run.state.version) == ("completed", 1)


CALLBACKS = """
    keychain:
      - {name: boss, kind: callback, approval: manager}
      - {name: paid, kind: callback, signal: "{{ workload.signal }}"}
      - {name: broken, kind: callback, signal: "{{ workload.missing.name }}"}
    workload: {signal: paid}
    """


def test_waits_for_the_signal_of_a_callback_are_counted_as_they_end() -> None:
    """Of each item of a loop, and while its step runs; no others, of which there may be many."""
    run = Run(
        """
        - step: hold
          loop: {in: [a, b], iterator: item, spec: {mode: sequential}}
          tool: [{name: ask, kind: wait, approval: manager}, {name: answer, kind: wait, signal: other}]
          next: {arcs: [{step: pay}]}
        - {step: pay, tool: {kind: wait, signal: "{{ workload.signal }}", within: 1h}, next: {arcs: [{step: last}]}}
        - {step: last, tool: {kind: wait, signal: x}}
        """,
        CALLBACKS,
    )
    for ended in range(2):
        park(run, run.open("hold"), signal="manager", approval=True)
        assert run.state.ended_waits == ({"manager": ended} if ended else {})
        signal(run, "manager", data={"approved": True})
        assert run.state.ended_waits == {"manager": ended + 1}
        park(run, run.open("hold"), signal="other")
        signal(run, "other")
        run.frame(run.open("hold"), [None])
    # kept before its wait, which ends at once
    signal(run, "paid")
    park(run, "pay#1", signal="paid", timeout=3600)
    park(run, "last#1", signal="x")
    assert run.state.ended_waits == {"manager": 2, "paid": 1}
    signal(run, "x")
    assert (run.state.status, run.state.ended_waits) == ("completed", {})


@pytest.mark.parametrize("of_step", [False, True])
def test_a_wait_for_a_callback_that_its_time_ends_is_counted(of_step: bool) -> None:
    spec = "spec: {policy: {lifecycle: {timeout: 2h}}}" if of_step else ""
    run = Run(
        f"""
        - step: hold
          {spec}
          tool: {{kind: wait, approval: manager, within: 1h}}
          next: {{arcs: [{{step: after, when: "{{{{ output.status == 'error' }}}}"}}]}}
        - {{step: after, tool: {{kind: noop}}}}
        """,
        CALLBACKS,
    )
    park(run, signal="manager", approval=True, timeout=3600)
    (name,) = run.state.timers if of_step else run.state.waits
    wait = {"step": "hold", "generation": 1}
    run.fact(e.TIMER_FIRED, payload={"timer": name}, **wait)
    assert (run.running, run.state.ended_waits) == ({"after"}, {"manager": 1})


def test_waits_that_end_because_the_execution_fails_are_counted() -> None:
    run = Run(
        """
        - step: pay
          tool: {kind: noop}
          compensate: {tool: {kind: wait, approval: manager}}
          next: {spec: {mode: inclusive}, arcs: [{step: hold}, {step: bad}]}
        - {step: hold, tool: {kind: wait, approval: manager}}
        - {step: bad, tool: {kind: noop}}
        """,
        CALLBACKS,
    )
    run.report("pay#1", data=1)
    park(run, signal="manager", approval=True)
    run.report("bad#1", e.CALL_ERROR, error={"kind": "tool", "code": "boom", "message": "no"})
    assert (run.running, run.state.ended_waits) == ({"pay.compensate"}, {"manager": 1})
