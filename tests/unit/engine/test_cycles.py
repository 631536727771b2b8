"""Arcs that lead back: turns, rounds, and what is under way twice."""

from __future__ import annotations

import pytest
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.limits import DECISION_BYTES, DECISION_EVENTS

EMPTY_LOOP = """
- step: turn
  loop: {in: "{{ [] }}", iterator: x}
  tool: {kind: noop}
  set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
  next: {arcs: [{step: turn, when: "{{ ctx.n < TURNS }}"}, {step: done}]}
- {step: done, tool: {kind: noop}}
"""
TWO_BACK = """
- step: head
  tool: {kind: noop}
  next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
- {step: left, tool: {kind: noop}, next: {arcs: [{step: head}]}}
- {step: right, tool: {kind: noop}, next: {arcs: [{step: head}]}}
"""


@pytest.mark.parametrize("turns", [500, 10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_loop_of_nothing_takes_all_its_turns_in_one_decision(turns: int) -> None:
    head = "executor: {spec: {max_turns: 100000}}\n"
    run = Run(EMPTY_LOOP.replace("TURNS", str(turns)), head)
    assert run.state.error is None, run.state.error
    assert (run.running, run.state.ctx["n"]) == ({"done"}, turns)


def test_turns_have_a_limit_that_names_the_step() -> None:
    run = Run(EMPTY_LOOP.replace("TURNS", "50"), "executor: {spec: {max_turns: 20}}\n")
    assert run.state.status == "failed"
    assert (run.failure["code"], run.failure["step"]) == ("turns.exceeded", "turn")


def test_by_default_a_step_begins_ten_thousand_times_at_most() -> None:
    run = Run(EMPTY_LOOP.replace("TURNS", "20000"))
    assert run.failure["code"] == "turns.exceeded"
    assert run.state.generations["turn"] == 10_000


@pytest.mark.parametrize("first", ["left", "right"])
def test_two_branches_that_lead_back_make_one_round(first: str) -> None:
    run = Run(TWO_BACK)
    second = "right" if first == "left" else "left"
    for round in range(1, 6):
        run.done("head")
        assert run.running == {"left", "right"}
        run.done(first)
        assert run.running == {second}, "the next round began while this one was under way"
        run.done(second)
        assert run.running == {"head"}
        assert run.state.generations == {"head": round + 1, "left": round, "right": round}


def test_a_branch_that_turns_by_itself_does_not_wait_for_the_other() -> None:
    run = Run(
        """
        - step: head
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: poll}, {step: slow}]}
        - step: poll
          tool: {kind: noop}
          next: {arcs: [{step: poll, when: "{{ output.data.more }}"}, {step: both}]}
        - {step: slow, tool: {kind: noop}, next: {arcs: [{step: both}]}}
        - {step: both, tool: {kind: noop}, next: {arcs: [{step: head}]}}
        """
    )
    run.done("head")
    for _ in range(3):
        run.done("poll", {"more": True})
        assert run.running == {"poll", "slow"}
    run.done("poll", {"more": False})
    run.done("slow")
    run.done("both")
    assert run.running == {"head"}, "the round after the join"


def test_cycles_that_are_woven_into_each_other_do_not_wait_for_each_other_for_ever() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}
        - {step: b, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: c}, {step: a}]}}
        - {step: c, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: a}]}}
        """,
        "executor: {spec: {max_turns: 30}}\n",
    )
    for _ in range(400):
        if run.state.ended:
            break
        assert run.running, "nothing is under way, and it has not ended"
        run.done(sorted(run.running)[0])
    assert run.failure["code"] == "turns.exceeded"


def test_a_fact_whose_command_is_not_out_is_kept_and_changes_nothing() -> None:
    run = Run(
        """
        - step: pay
          tool: {kind: noop}
          next: {arcs: [{step: once}]}
        - {step: once, tool: {kind: noop}}
        """
    )
    run.done("pay", {"n": 1})
    before = run.state.copy()
    for kind in (e.CALL_DONE, e.CALL_ERROR, e.CALL_DEFERRED, e.CALL_PARKED):
        payload = {"data": {"n": 2}, "set": {"x": 1}, "delay": 1.0, "child": {}, "error": {"code": "late"}}
        assert run.fact(kind, step="pay", generation=1, command_id="pay#1", payload=payload) == [], kind
    before.seq = run.state.seq
    assert run.state.snapshot() == before.snapshot()
    assert run.fact(e.CHILD_ENDED, step="pay", generation=1, payload={"execution_id": "9", "status": "ok"}) == []
    assert run.fact(e.TIMER_FIRED, step="pay", generation=1, payload={"timer": "pay#1!3"}) == []
    assert len(run.issued("once")) == 1, "what follows was decided twice"


def test_a_deferral_keeps_the_milliseconds_it_asked_for() -> None:
    run = Run("- {step: a, tool: {kind: noop}}")
    run.report("a#1", e.CALL_DEFERRED, delay=1.2345)
    (timer,) = [event for event in run.log if event.type == e.TIMER_SET]
    assert timer.payload["due"] - timer.at == 1234


WOVEN = """
- {step: both, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: slow}]}}
- {step: slow, tool: {kind: noop}}
- step: a
  tool: {kind: noop}
  next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}
- {step: b, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: c}, {step: a}]}}
- {step: c, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: a}]}}
"""


def test_woven_cycles_do_not_wait_for_a_branch_that_has_nothing_to_do_with_them() -> None:
    run = Run(WOVEN, "executor: {spec: {max_turns: 30}}\n")
    run.done("both")
    for _ in range(20):
        assert run.running > {"slow"}, "they wait for a step that cannot lead to them"
        run.done(sorted(run.running - {"slow"})[0])


CYCLE = """
- step: first
  tool: {kind: noop}
  spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}
  next: {arcs: [{step: second, when: "{{ event.name == 'step.skipped' }}"}]}
- step: second
  loop: {in: "{{ [] }}", iterator: x}
  tool: {kind: noop}
  set: {ctx.n: "{{ TEXT }}"}
  next: {arcs: [{step: third}]}
- {step: third, loop: {in: "{{ [] }}", iterator: x}, tool: {kind: noop}, next: {arcs: [{step: first}]}}
"""


def test_a_cycle_of_steps_that_do_nothing_fails_before_its_decision_is_too_large_to_be_written() -> None:
    run = Run(CYCLE.replace("TEXT", "1"), "executor: {spec: {max_turns: 100000}}\n")
    assert run.types() == [e.STARTED, e.FAILED], "of what came to nothing, nothing is kept"
    assert run.failure["code"] == "decision.too_large"
    assert run.failure["step"] in ("first", "second", "third")
    assert f"more than {DECISION_EVENTS} events" in run.failure["message"]


def test_so_does_one_that_sets_large_values() -> None:
    run = Run(CYCLE.replace("TEXT", "'x' * 60000"))
    assert run.types() == [e.STARTED, e.FAILED]
    assert run.failure["code"] == "decision.too_large"
    assert f"more than {DECISION_BYTES} bytes" in run.failure["message"]


TWICE = """
- {step: head, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: often}, {step: head}]}}
- step: often
  WORK
  next: {arcs: [{step: new, when: "{{ 'new' in output.data | string }}"}, {step: old}]}
- {step: new, tool: {kind: noop}}
- {step: old, tool: {kind: noop}}
"""


def test_the_arcs_of_a_loop_that_was_overtaken_see_its_own_results() -> None:
    run = Run(TWICE.replace("WORK", 'loop: {in: "{{ [1] }}", iterator: x}\n  tool: {kind: noop}'))
    run.done("head")
    run.done("head")
    run.frame("often#2.0", ["new"])
    assert run.running == {"head", "often", "new"}
    run.frame("often#1.0", ["old"])
    assert run.running == {"head", "new", "old"}, "the older run was routed by the newer one's results"
    assert run.state.outcomes["often"]["data"]["results"] == ["new"]


def test_a_step_that_was_overtaken_does_not_replace_the_newer_outcome() -> None:
    run = Run(TWICE.replace("WORK", "tool: {kind: noop}"))
    run.done("head")
    run.done("head")
    for generation, data in ((2, "new"), (1, "old")):
        run.report(f"often#{generation}", e.CALL_DONE, data=data)
    assert run.state.outcomes["often"]["data"] == "new", "the older run ended last, and took the newer one's place"


def test_a_sub_playbook_that_was_overtaken_does_not_replace_the_newer_outcome() -> None:
    run = Run(TWICE.replace("WORK", "tool: {kind: playbook, path: t/child}"))
    child = {"path": "t/child", "version": 1, "payload": {}, "return_step": None, "catalog_id": "1", "plan_hash": "h"}
    children = []
    for generation in (1, 2):
        run.done("head")
        run.report(f"often#{generation}", e.CALL_PARKED, child=child)
        children.append(list(run.state.children)[-1])
    for generation, data in ((2, "new"), (1, "old")):
        payload = {"execution_id": children[generation - 1], "resumes": False, "status": "ok", "data": data}
        run.fact(e.CHILD_ENDED, step="often", generation=generation, payload=payload)
    assert run.running == {"head", "new", "old"}
    assert run.state.outcomes["often"]["data"] == "new", "the older run ended last, and took the newer one's place"


def test_a_join_keeps_once_who_led_to_it() -> None:
    run = Run(
        """
        - {step: both, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: turn}, {step: slow}]}}
        - step: turn
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: meet}, {step: turn}]}
        - {step: slow, tool: {kind: noop}, next: {arcs: [{step: meet}]}}
        - {step: meet, tool: {kind: noop}}
        """
    )
    run.done("both")
    for _ in range(5):
        run.done("turn")
    assert run.state.waiting["meet"] == ["turn"]


@pytest.mark.parametrize("arcs", ["{step: meet}, {step: again}", "{step: again}, {step: meet}"])
def test_whether_a_join_waits_does_not_depend_on_the_order_of_arcs(arcs: str) -> None:
    run = Run(
        f"""
        - step: head
          tool: {{kind: noop}}
          next: {{arcs: [{{step: leave, when: "{{{{ ctx.n is defined }}}}"}}, {{step: turn}}]}}
        - {{step: turn, tool: {{kind: noop}}, set: {{ctx.n: 1}}, next: {{spec: {{mode: inclusive}}, arcs: [{arcs}]}}}}
        - {{step: again, tool: {{kind: noop}}, next: {{arcs: [{{step: head}}]}}}}
        - {{step: leave, tool: {{kind: noop}}, next: {{arcs: [{{step: meet}}]}}}}
        - {{step: meet, tool: {{kind: noop}}}}
        """
    )
    run.done("head")
    run.done("turn")
    assert run.running == {"again"}, "what is about to run leads to the join as much as what runs"
    run.done("again")
    run.done("head")
    run.done("leave")
    assert run.running == {"meet"}


COSTLY = """
- step: turn
  loop: {in: [], iterator: x}
  tool: {kind: noop}
  next: {arcs: [{step: other, when: "{{ range(20000) | sum < 0 }}"}, {step: turn}]}
- {step: other, tool: {kind: noop}}
"""


def test_conditions_that_cost_much_end_a_cycle_long_before_its_turns_do() -> None:
    run = Run(COSTLY, "executor: {spec: {max_turns: 500}}\n")
    assert run.types() == [e.STARTED, e.FAILED]
    assert (run.failure["code"], run.failure["step"]) == ("decision.too_large", "turn")
    assert "units of work" in run.failure["message"]
