"""What has been done is undone before an execution fails: once, the latest first, whatever else is under way."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import pytest
from tests.unit.engine.run import Run

from noetl_serverless import limits
from noetl_serverless.engine import compensation as compensation_of_engine
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.prices import load

SAGA = """
    - step: reserve
      tool: {kind: noop}
      compensate: {tool: {kind: http, url: "{{ workload.api }}/release/{{ reserve.id }}", method: POST}}
      next: {arcs: [{step: charge}]}
    - step: charge
      tool: {kind: noop}
      compensate: {tool: {kind: http, url: "{{ workload.api }}/refund/{{ charge.id }}", method: POST}}
      next: {arcs: [{step: note}]}
    - {step: note, tool: {kind: noop}, next: {arcs: [{step: ship}]}}
    - {step: ship, tool: {kind: noop}, compensate: none}
    """
FORK = """
    - {step: begin, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}}
    - {step: left, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: after}]}}
    - {step: after, tool: {kind: noop}}
    - {step: right, tool: {kind: noop}}
    """


def undone(run: Run) -> list[str]:
    """The compensations that were issued, in order."""
    orders = [event for event in run.log if event.type == e.ISSUED and (event.step or "").endswith(".compensate")]
    return [f"{event.step}#{event.generation}" for event in orders]


def compensation(run: Run) -> Any:
    return run.failure["compensation"]


def test_what_has_been_done_is_undone_in_reverse_order_and_then_the_execution_fails_with_its_own_error() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.done("charge", {"id": 2})
    run.done("note")
    run.error("ship", "no_truck")
    assert run.running == {"charge.compensate"}
    assert run.state.status == "running"
    (order,) = run.issued("charge.compensate")
    assert order.payload["scope"]["steps"]["charge"]["data"] == {"id": 2}
    run.done("charge.compensate")
    assert run.running == {"reserve.compensate"}
    run.done("reserve.compensate")
    assert (run.state.status, run.failure["code"], run.failure["step"]) == ("failed", "no_truck", "ship")
    assert compensation(run) == {"done": ["charge", "reserve"], "failed": []}
    assert undone(run) == ["charge.compensate#1", "reserve.compensate#1"]


def test_what_has_not_been_done_is_not_undone() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.error("charge")
    run.done("reserve.compensate")
    assert compensation(run) == {"done": ["reserve"], "failed": []}
    run = Run(SAGA)
    run.error("reserve")
    assert run.state.status == "failed"
    assert "compensation" not in run.failure


def test_an_execution_that_ends_well_undoes_nothing() -> None:
    run = Run(SAGA)
    for step in ("reserve", "charge", "note", "ship"):
        run.done(step, {"id": 1})
    assert run.state.status == "completed"
    assert undone(run) == []


def test_a_compensation_that_fails_is_recorded_and_the_others_go_on() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.done("charge", {"id": 2})
    run.error("note")
    run.error("charge.compensate", "bank_closed")
    run.done("reserve.compensate")
    failed = [{"step": "charge", "code": "bank_closed", "message": "it broke"}]
    assert compensation(run) == {"done": ["reserve"], "failed": failed}


def test_a_compensation_may_retry_by_its_own_rules() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.error("charge")
    run.report("reserve.compensate#1", e.CALL_DEFERRED, delay=5, resume={"task": "x"})
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="reserve.compensate", generation=1, payload={"timer": timer})
    run.done("reserve.compensate")
    assert compensation(run)["done"] == ["reserve"]


def test_each_run_of_a_step_is_undone_with_its_own_result() -> None:
    run = Run(
        """
        - step: buy
          tool: {kind: noop}
          compensate: {tool: {kind: noop, result: "{{ buy.n }}"}}
          next: {arcs: [{step: more}]}
        - step: more
          tool: {kind: noop}
          next: {arcs: [{step: buy, when: "{{ output.data.again }}"}, {step: last}]}
        - {step: last, tool: {kind: noop}}
        """
    )
    for n in (1, 2, 3):
        run.done("buy", {"n": n})
        run.done("more", {"again": n < 3})
    run.error("last")
    seen = []
    while run.state.status == "running":
        order = run.issued("buy.compensate")[-1]
        seen.append(order.payload["scope"]["steps"]["buy"]["data"]["n"])
        run.done("buy.compensate")
    assert seen == [3, 2, 1]
    assert compensation(run)["done"] == ["buy", "buy", "buy"]


def test_what_is_under_way_of_such_a_step_ends_first_and_is_undone_too() -> None:
    run = Run(FORK)
    run.done("begin")
    run.error("right")
    assert (run.running, run.state.status) == ({"left"}, "running")
    run.done("left")
    assert run.running == {"left.compensate"}, "its arc was followed, or it was not undone"
    run.done("left.compensate")
    assert (run.state.status, compensation(run)["done"]) == ("failed", ["left"])


@pytest.mark.parametrize("loop", ["", "loop: {in: [1], iterator: n}"])
@pytest.mark.parametrize(
    "what", ['set: {ctx.x: "{{ output.nothing.x }}"}', 'next: {arcs: [{step: last, when: "{{ output.nothing.x }}"}]}']
)
def test_what_has_been_done_is_undone_though_nothing_can_be_made_of_its_result(what: str, loop: str) -> None:
    run = Run(
        f"""
        - step: charge
          {loop}
          tool: {{kind: noop}}
          compensate: {{tool: {{kind: noop, result: "{{{{ charge.status }}}}"}}}}
          {what}
        - {{step: last, tool: {{kind: noop}}}}
        """
    )
    if loop:
        run.frame(run.open("charge"), ["A"])
    else:
        run.done("charge", {"id": 1})
    assert run.running == {"charge.compensate"}
    run.done("charge.compensate")
    assert (run.failure["code"], compensation(run)) == ("template.error", {"done": ["charge"], "failed": []})
    assert undone(run) == ["charge.compensate#1"]


def test_what_has_been_done_is_undone_though_what_it_sets_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CTX_BYTES", 100)
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.done("charge", {"id": 2}, set={f"n{number}": "x" for number in range(20)})
    for step in ("charge", "reserve"):
        run.done(f"{step}.compensate")
    assert (run.failure["code"], compensation(run)["done"]) == ("value.invalid", ["charge", "reserve"])


def test_what_has_been_done_is_undone_though_too_much_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DECISION_EVENTS", 4)
    names = [f"n{number}" for number in range(8)]
    arcs = ", ".join(f"{{step: {name}}}" for name in names)
    run = Run(
        f"""
        - step: charge
          tool: {{kind: noop}}
          compensate: {{tool: {{kind: noop}}}}
          next: {{spec: {{mode: inclusive}}, arcs: [{arcs}]}}
        """
        + "".join(f"- {{step: {name}, tool: {{kind: noop}}}}\n        " for name in names)
    )
    run.done("charge", {"id": 2})
    run.done("charge.compensate")
    assert (run.failure["code"], compensation(run)["done"]) == ("decision.too_large", ["charge"])


def test_what_is_under_way_and_fails_is_not_undone() -> None:
    run = Run(FORK)
    run.done("begin")
    run.error("right", "first")
    run.error("left", "second")
    assert (run.state.status, run.failure["code"]) == ("failed", "first")
    assert compensation(run) == {"done": [], "failed": []}


def test_what_is_under_way_does_not_begin_again() -> None:
    for report in ({"delay": 5.0, "kind": e.CALL_DEFERRED}, {"wait": {"signal": "x"}, "kind": e.CALL_PARKED}):
        run = Run(FORK)
        run.done("begin")
        run.error("right")
        stopped = run.report("left#1", **report)
        assert [event.type for event in stopped] == [e.STEP_STOPPED, e.FAILED]
        assert stopped[0].payload["error"]["code"] == "step.stopped"


def test_the_items_of_a_loop_that_have_been_done_are_undone_when_others_fail() -> None:
    run = Run(
        """
        - step: reserve
          loop: {in: [a, b, c], iterator: item}
          tool: {kind: noop}
          compensate:
            loop: {in: "{{ reserve.results | select('ne', none) | list }}", iterator: made}
            tool: {kind: noop, result: "{{ made }}"}
        """
    )
    run.frame(run.open("reserve"), ["A"])
    run.frame(run.open("reserve"), ["B"])
    run.frame(run.open("reserve"), [None], failed=1, error={"code": "boom", "message": "it broke"})
    opened = next(event for event in run.log if event.type == e.LOOP_OPENED and event.step == "reserve.compensate")
    assert opened.payload["data"] == ["A", "B"]
    for name in ("A", "B"):
        run.frame(run.open("reserve.compensate"), [name])
    assert compensation(run) == {"done": ["reserve"], "failed": []}


def test_a_template_of_a_compensation_that_cannot_be_rendered_is_the_failure_of_that_compensation() -> None:
    run = Run(
        """
        - {step: one, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: two}]}}
        - step: two
          tool: {kind: noop}
          compensate: {loop: {in: "{{ two.nothing.there }}", iterator: x}, tool: {kind: noop}}
          next: {arcs: [{step: three}]}
        - {step: three, tool: {kind: noop}}
        """
    )
    run.done("one", {})
    run.done("two", {})
    run.error("three")
    run.done("one.compensate")
    assert compensation(run)["done"] == ["one"]
    assert [entry["step"] for entry in compensation(run)["failed"]] == ["two"]


def test_an_execution_out_of_time_undoes_what_it_has_done() -> None:
    run = Run(SAGA, head="executor: {spec: {timeout: 60}}\n", started={"timeout": 60})
    run.done("reserve", {"id": 1})
    run.fact(e.TIMER_FIRED, step="reserve", generation=0, payload={"timer": e.DEADLINE})
    assert run.running == {"charge"}, "a step with an effect that is under way ends first"
    run.done("charge", {"id": 2})
    for step in ("charge", "reserve"):
        run.done(f"{step}.compensate")
    assert (run.failure["code"], compensation(run)["done"]) == ("execution.timeout", ["charge", "reserve"])


def test_a_budget_does_not_hold_up_what_is_undone() -> None:
    budget = {"max_invocations": 1, "prices": asdict(load("aws-2025-06"))}
    run = Run(SAGA, budget=budget)
    run.done("reserve", {"id": 1})
    assert run.running == {"reserve.compensate"}
    run.done("reserve.compensate")
    assert run.failure["code"] == "budget.exceeded"


def test_a_cancelled_execution_undoes_nothing_more() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.error("charge")
    run.fact(e.CANCELLED, payload={"reason": "stop"})
    assert run.state.status == "cancelled"
    assert run.state.compensating is None


def test_more_than_can_be_noted_fails_the_execution_which_undoes_what_it_has_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compensation_of_engine, "COMPENSATIONS", 1)
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.done("charge", {"id": 2})
    for step in ("charge", "reserve"):
        run.done(f"{step}.compensate")
    assert (run.failure["code"], compensation(run)["done"]) == ("compensation.too_many", ["charge", "reserve"])


def test_a_version_of_the_playbook_that_undoes_nothing_says_so() -> None:
    run = Run(SAGA)
    run.done("reserve", {"id": 1})
    run.plan = Run(re.sub(r"compensate: \{.*", "compensate: none", SAGA)).plan
    run.plan = replace(run.plan, has_compensations=True)
    run.error("charge")
    assert compensation(run)["failed"][0]["code"] == "compensation.missing"


BESIDE = """
    - step: begin
      tool: {{kind: noop}}
      compensate: {{tool: {{kind: noop}}}}
      next: {{spec: {{mode: inclusive}}, arcs: [{{step: sub}}, {{step: other}}]}}
    - step: sub
      spec: {{concurrency: {{key: "{{{{ ctx.k }}}}", limit: 3}}}}
      {loop}
      tool: [{{name: call, kind: playbook, path: t/child}}, {{name: more, kind: noop, input: {{k: "{{{{ ctx.k }}}}"}}}}]
      compensate: {{tool: {{kind: noop}}}}
    - step: other
      tool: {{kind: noop}}
      set: {{ctx.k: "{{{{ output.data }}}}"}}
      next: {{arcs: [{{step: bad}}]}}
    - {{step: bad, tool: {{kind: noop}}}}
    """
ITEMS = "loop: {in: [1, 2], iterator: n, spec: {mode: parallel, max_in_flight: 2}}"


def call_child(run: Run, command: str) -> str:
    """A sub-playbook takes the place of a command of `sub`; its id."""
    (started,) = run.report(command, e.CALL_PARKED, child={"path": "t/child"}, resume={})
    return str(started.payload["execution_id"])


def child_ends(run: Run, child: str, status: str = "ok") -> list[Event]:
    payload = {"execution_id": child, "resumes": True, "status": status}
    return run.fact(e.CHILD_ENDED, step="sub", generation=1, payload=payload)


def begun(loop: str = "") -> Run:
    """`begin` is done, `sub` and `other` are under way."""
    run = Run(BESIDE.format(loop=loop), payload={"ctx": {"k": "a"}}, started={"ctx": {"k": "a"}})
    run.done("begin")
    return run


@pytest.mark.parametrize("k", [["no", "text"], "x" * 900])
def test_what_was_under_way_and_cannot_go_on_fails_by_itself_and_what_is_due_is_undone(
    k: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun()
    child = call_child(run, run.open("sub"))
    run.done("other", k)
    run.error("bad", "first")
    monkeypatch.setattr(limits, "SCOPE_BYTES", 800)
    stopped = child_ends(run, child)
    assert [event.type for event in stopped] == [e.STEP_STOPPED, e.ISSUED]
    assert stopped[0].payload["error"]["code"] == "value.invalid"
    assert undone(run) == ["begin.compensate#1"]
    run.done("begin.compensate")
    assert (run.failure["code"], compensation(run)) == ("first", {"done": ["begin"], "failed": []})


def test_an_item_that_cannot_go_on_fails_by_itself_and_the_others_are_undone() -> None:
    run = begun(ITEMS)
    first, second = (name for name, command in run.state.commands.items() if command.kind == "frame")
    child = call_child(run, first)
    run.done("other", ["no text"])
    run.error("bad", "first")
    (stopped,) = child_ends(run, child)
    assert (stopped.type, stopped.payload["child"]) == (e.STEP_STOPPED, child)
    run.frame(second, ["B"])
    assert undone(run) == ["sub.compensate#1"]

    assert run.state.compensable[-1].outcome["data"]["stats"]["success"] == 1
    run.done("sub.compensate")
    run.done("begin.compensate")
    assert compensation(run) == {"done": ["sub", "begin"], "failed": []}


def test_nothing_of_a_compensation_goes_on_that_has_failed_in_between() -> None:
    run = Run(
        """
        - {step: one, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: two}]}}
        - step: two
          tool: {kind: noop}
          compensate:
            loop: {in: [1, 2, 3], iterator: n, spec: {mode: parallel, max_in_flight: 2}}
            spec: {concurrency: {key: "{{ vars.k }}", limit: 3}}
            tool: {kind: noop}
          next: {arcs: [{step: three}]}
        - {step: three, tool: {kind: noop}}
        """
    )
    run.fact(e.VARIABLES_SET, payload={"variables": {"k": "a"}, "type": "user"})
    run.done("one")
    run.done("two")
    run.error("three")
    first, second = run.state.commands
    run.fact(e.VARIABLES_SET, payload={"variables": {"k": []}, "type": "user"})
    run.frame(first, ["A"])
    assert run.running == {"one.compensate"}, "its other items are still under way"
    assert not run.state.loops
    frame = {"start": 1, "end": 2, "ok": 1, "failed": 0}
    late = run.fact(e.FRAME_COMMITTED, step="two.compensate", generation=1, command_id=second, payload=frame)
    assert late == []
    run.done("one.compensate")
    assert compensation(run)["done"] == ["one"]
    assert [(one["step"], one["code"]) for one in compensation(run)["failed"]] == [("two", "value.invalid")]


def test_what_was_under_way_is_undone_though_too_much_follows_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(
        """
        - step: begin
          tool: {kind: noop}
          compensate: {tool: {kind: noop}}
          next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
        - step: left
          tool: {kind: noop}
          compensate:
            loop: {in: "{{ range(40) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 40}}
            tool: {kind: noop}
        - {step: right, tool: {kind: noop}}
        """
    )
    run.done("begin")
    run.error("right", "first")
    monkeypatch.setattr(limits, "DECISION_EVENTS", 4)
    run.done("left")
    assert run.running == {"begin.compensate"}
    run.done("begin.compensate")
    assert compensation(run)["done"] == ["begin"]
    assert [(one["step"], one["code"]) for one in compensation(run)["failed"]] == [("left", "decision.too_large")]


TIMED = """
    - {{step: begin, tool: {{kind: noop}}, next: {{spec: {{mode: inclusive}}, arcs: [{{step: sub}}, {{step: bad}}]}}}}
    - step: sub
      {spec}
      {loop}
      tool: {{kind: playbook, path: t/child}}
      compensate: {{tool: {{kind: noop}}}}
    - {{step: bad, tool: {{kind: noop}}}}
    """
LIMIT = "spec: {policy: {lifecycle: {timeout: 60}}}"


def timed(spec: str = "", loop: str = "") -> Run:
    run = Run(TIMED.format(spec=spec, loop=loop), started={"timeout": 60})
    run.done("begin")
    return run


def deadline(run: Run) -> list[Event]:
    return run.fact(e.TIMER_FIRED, step="begin", generation=0, payload={"timer": e.DEADLINE})


def test_what_is_under_way_has_the_time_of_its_step() -> None:
    run = timed(LIMIT)
    call_child(run, run.open("sub"))
    run.error("bad", "first")
    name = e.step_deadline("sub#1")
    assert set(run.state.timers) == {name, e.DEADLINE}
    events = run.fact(e.TIMER_FIRED, step="sub", generation=1, payload={"timer": name})
    assert [event.type for event in events] == [e.STEP_TIMED_OUT, e.FAILED]
    assert (run.failure["code"], compensation(run)) == ("first", {"done": [], "failed": []})


def test_the_time_of_a_step_that_ends_in_it_is_not_kept() -> None:
    run = timed(LIMIT)
    run.error("bad", "first")
    assert set(run.state.timers) == {e.step_deadline("sub#1")}, "a worker has no less time than it had"
    run.done("sub")
    assert not run.state.timers
    assert run.running == {"sub.compensate"}


@pytest.mark.parametrize("cause", ["bad", "deadline"])
def test_a_sub_playbook_stops_when_the_time_of_the_execution_is_over(cause: str) -> None:
    run = timed()
    child = call_child(run, run.open("sub"))
    if cause == "bad":
        run.error("bad", cause)
        assert run.state.children.keys() == {child}
    stopped = deadline(run)
    assert [event.type for event in stopped][-2:] == [e.STEP_STOPPED, e.FAILED]
    assert run.failure["code"] == {"bad": "bad", "deadline": "execution.timeout"}[cause]


def test_items_of_a_loop_that_are_sub_playbooks_stop_then_and_the_others_are_undone() -> None:
    run = timed(loop=ITEMS)
    first, second = (name for name, command in run.state.commands.items() if command.kind == "frame")
    child = call_child(run, first)
    run.error("bad", "first")
    (stopped,) = deadline(run)
    assert (stopped.type, stopped.payload["child"]) == (e.STEP_STOPPED, child)
    run.frame(second, ["B"])
    assert run.state.compensable[-1].outcome["data"]["results"] == [None, "B"], "at the places of the items"
    run.done("sub.compensate")
    assert (run.failure["code"], compensation(run)["done"]) == ("first", ["sub"])


CLAIMING = """
    - {step: begin, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: drain}, {step: bad}]}}
    - step: drain
      loop:
        cursor: {kind: postgres, auth: wh, claim: "SELECT {{ __frame_max_rows }}"}
        iterator: row
        spec: {mode: cursor, frame: {max_rows: 4}}
      tool: {kind: noop}
      compensate: {tool: {kind: noop, result: "{{ drain.stats }}"}}
    - {step: bad, tool: {kind: noop}}
    """


def test_of_rows_that_were_claimed_those_are_undone_and_counted() -> None:
    run = Run(CLAIMING)
    run.done("begin")
    frame = next(name for name, command in run.state.commands.items() if command.kind == "frame")
    run.error("bad")
    run.frame(frame, ["a", "b"])
    assert run.state.loops["drain#1"].returned == (), "the state grows with each claim that finds fewer rows"
    for other in [name for name in run.state.commands if not name.startswith("drain.compensate")]:
        run.frame(other, [], drained=True)
    (order,) = run.issued("drain.compensate")
    stats = {"total": 2, "success": 2, "failed": 0}
    assert order.payload["scope"]["steps"]["drain"]["data"] == {"results": ["a", "b"], "stats": stats}


def test_a_compensation_goes_on_when_the_time_of_the_execution_is_over() -> None:
    run = timed()
    child = call_child(run, run.open("sub"))
    run.error("bad", "first")
    child_ended = {"execution_id": child, "resumes": False, "status": "ok"}
    run.fact(e.CHILD_ENDED, step="sub", generation=1, payload=child_ended)
    (started,) = run.report(run.open("sub.compensate"), e.CALL_PARKED, child={"path": "t/undo"}, resume={})
    assert deadline(run) == []
    undone_by = {"execution_id": started.payload["execution_id"], "resumes": False, "status": "ok"}
    run.fact(e.CHILD_ENDED, step="sub.compensate", generation=1, payload=undone_by)
    assert (run.failure["code"], compensation(run)["done"]) == ("first", ["sub"])
