"""Which recorded facts another version of a playbook takes, and what it is told where there are none."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent, indent
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, CHILD, LOOP, WORKFLOWS, play
from tests.unit.engine.run import HEAD, Run

from noetl_serverless.engine import events as e
from noetl_serverless.inspection.diff import Diff, diff
from noetl_serverless.inspection.redecide import ASSUMED, Redecided, given_workload, merged, redecide
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan


def plan_of(workflow: str, head: str = "") -> Plan:
    return load_plan(HEAD + dedent(head) + "workflow:\n" + indent(dedent(workflow), "  "))


def again(run: Any, workflow: str, assume: bool = False, **more: Any) -> Redecided:
    return redecide("7", run.log, run.plan, plan_of(workflow), assume=assume, **more)


def changes_of(found: Diff, step: str) -> list[tuple[str, Any, Any]]:
    return [(change.where, change.recorded, change.now) for change in found.reparameterised[step]]


READS = """
- step: a
  tool: {kind: noop, input: {n: "{{ workload.n }}", m: "{{ workload.m.k }}"}}
  set: {ctx.n: "{{ workload.n }}"}
"""


@pytest.mark.parametrize("beside", [False, True], ids=["in the log", "beside the log"])
def test_defaults_are_the_new_ones_and_what_was_given_stays(beside: bool) -> None:
    run = play(Run(READS, head="workload: {n: 1, m: {k: 1, l: 1}}\n", payload={"m": {"k": 7, "l": 1}}), 1)
    log, workload = run.log, run.log[0].payload["workload"]
    if beside:
        kept = {name: value for name, value in log[0].payload.items() if name != "workload"}
        log = [replace(log[0], payload=kept), *log[1:]]
    other = plan_of(READS, "workload: {n: 2, m: {k: 2, l: 2}}\n")
    found = redecide("7", log, run.plan, other, workload)
    assert found.state.workload == {"n": 2, "m": {"k": 7, "l": 2}}
    assert found.state.ctx == {"n": 2}
    assert ("workload" in found.log[0].payload) is not beside
    assert changes_of(diff("7", log, run.plan, other, workload), "a") == [
        ("workload.n", 1, 2),
        ("workload.m.l", 1, 2),
        ("set.n", 1, 2),
    ]


def test_what_was_given_is_where_a_workload_is_not_its_playbook_s() -> None:
    defaults = {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "f": {"g": 1}}
    assert given_workload(defaults, defaults) == {}
    assert given_workload(defaults, {"a": 1.0, "b": {"c": 1, "d": {"e": 1}}}) == {}
    changed = {"a": 2, "b": {"c": 1, "d": {"e": 2, "h": None}}, "f": [1], "i": {"j": 1}, "k": None}
    given = {"a": 2, "b": {"d": {"e": 2, "h": None}}, "f": [1], "i": {"j": 1}, "k": None}
    assert given_workload(defaults, changed) == given
    assert merged(defaults, given) == {**changed, "b": {"c": 1, "d": {"e": 2, "h": None}}}
    assert defaults == {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "f": {"g": 1}}, "what was given is a copy"


PIPED = """
- step: call
  tool:
    - {name: one, kind: playbook, path: t/child}
    - {name: two, kind: python, code: "result = 1"}
"""
ALONE = "- {step: call, tool: {kind: playbook, path: t/child}}\n"


def parked(workflow: str, resumes: bool) -> Run:
    """Up to the end of the sub-playbook."""
    run = Run(workflow)
    run.report("call#1", e.CALL_PARKED, child=CHILD)
    (child,) = run.state.children
    payload = {"execution_id": child, "resumes": resumes, "status": "ok", "data": {"v": 3}}
    run.fact(e.CHILD_ENDED, step="call", generation=1, payload=payload)
    return run


def test_where_a_task_comes_after_the_sub_playbook_now_a_worker_has_to_go_on() -> None:
    run = parked(ALONE, resumes=False)
    assert run.state.status == "completed"
    found = again(run, PIPED)
    assert found.state.status == "running"
    assert found.missing == {"call#1@2": "no outcome was recorded"}
    assert found.log[-1].payload["resume"]["child"]["data"] == {"v": 3}


def test_where_none_comes_any_more_the_end_of_the_sub_playbook_is_that_of_the_step() -> None:
    run = parked(PIPED, resumes=True)
    assert run.running == {"call"}
    found = again(run, ALONE)
    assert (found.state.status, found.missing) == ("completed", {})
    assert found.state.outcomes["call"] == {"status": "ok", "data": {"v": 3}}


def test_a_sub_playbook_that_runs_and_a_delay_that_is_not_over_are_missing() -> None:
    run = Run(ALONE)
    run.report("call#1", e.CALL_PARKED, child=CHILD)
    found = again(run, ALONE)
    assert found.divergence is None
    assert found.missing == dict.fromkeys(run.state.children, "the end of this sub-playbook was not recorded")
    run = Run(CHAIN)
    run.report("a#1", e.CALL_DEFERRED, delay=9)
    assert again(run, CHAIN).missing == dict.fromkeys(run.state.timers, "no such delay was recorded")


@pytest.mark.parametrize("seed", range(3))
def test_each_fact_has_a_number_of_its_own(seed: int) -> None:
    run = play(Run(LOOP), seed)
    found = again(run, LOOP.replace("max_in_flight: 8", "max_in_flight: 3"))
    seqs = [event.seq for event in found.log if event.cause is None]
    assert seqs[0] == 1 and len(seqs) == len(set(seqs))
    recorded = {event.seq: event for event in run.log}
    made = [event for event in found.log if event.cause is None and event != recorded.get(event.seq)]
    changed = [event for event in made if event.type == e.STARTED]
    assert len(changed) == 1
    assert {event.seq for event in made if event.type != e.STARTED}.isdisjoint(recorded), "taken for another fact"
    assert all(event.at <= run.log[-1].at for event in made)


def test_a_step_that_does_nothing_needs_no_record() -> None:
    longer = dedent(
        CHAIN.replace("{step: c, tool: {kind: noop}}", "{step: c, tool: {kind: noop}, next: {arcs: [{step: e}]}}")
    )
    found = again(play(Run(CHAIN), 1), longer + "- {step: e, tool: {kind: noop}}\n")
    assert (found.state.status, found.state.last, found.missing) == ("completed", "e", {})
    assert found.state.outcomes["e"] == {"status": "ok", "data": {"status": "ok"}}


@pytest.mark.parametrize(
    "step",
    [
        '{step: e, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}',
        "{step: e, tool: {kind: noop, spec: {policy: {rules: [{else: {then: {do: fail}}}]}}}}",
        "{step: e, tool: [{name: x, kind: noop}]}",
        "{step: e, tool: {kind: python, code: x = 1}}",
    ],
)
def test_any_other_does_unless_its_good_end_is_assumed(step: str) -> None:
    longer = CHAIN.replace("{step: c, tool: {kind: noop}}", "{step: c, tool: {kind: noop}, next: {arcs: [{step: e}]}}")
    workflow = dedent(longer) + f"- {step}\n"
    run = play(Run(CHAIN), 1)
    found = again(run, workflow)
    assert (found.state.status, found.missing) == ("running", {"e#1": "no outcome was recorded"})
    found = again(run, workflow, assume=True)
    assert (found.state.status, found.missing) == ("completed", {"e#1": ASSUMED})
    assert found.state.outcomes["e"] == {"status": "ok"}


def test_nothing_is_assumed_before_the_paths_part() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1})
    found = again(run, CHAIN, assume=True)
    assert found.divergence is None
    assert (found.state.status, found.missing) == ("running", {"b#1": "no outcome was recorded"})


EACH = '\n- {step: each, loop: {in: "{{ [5, 6] }}", iterator: n, spec: {mode: sequential}}, tool: {kind: noop}}\n'


def test_items_that_were_not_recorded_are_assumed_to_give_nothing() -> None:
    flow = dedent(CHAIN).replace(
        "{step: c, tool: {kind: noop}}", "{step: c, tool: {kind: noop}, next: {arcs: [{step: each}]}}"
    )
    run = play(Run(CHAIN), 1)
    found = again(run, flow + EACH)
    assert found.missing == {"each#1.0": "item 0 was not recorded"}
    found = again(run, flow + EACH, assume=True)
    assert found.state.outcomes["each"]["data"] == {
        "results": [None, None],
        "stats": {"total": 2, "success": 2, "failed": 0},
    }
    assert set(found.missing.values()) == {ASSUMED}


STORED = """
- {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}
- step: each
  loop: {in: "{{ load.rows }}", iterator: row, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: noop}
"""


def opened() -> Any:
    """A loop whose collection a worker has rendered."""
    run = Run(STORED)
    run.report("load#1", ref={"kind": "result_ref", "ref": "noetl://execution/7/result/load/0", "extracted": {}})
    run.report("each#1.open", count=2, data=["p", "q"])
    for name in list(run.state.commands):
        run.frame(name, [1])
    assert run.state.status == "completed"
    return run


def test_a_collection_that_a_worker_rendered_is_taken_for_the_same_template_alone() -> None:
    run = opened()
    cut = again(run, STORED.replace("max_in_flight: 2", "max_in_flight: 1"))
    assert (cut.state.status, cut.missing) == ("completed", {})
    other = again(run, STORED.replace("load.rows", "load.lines"))
    assert other.missing == {"each#1.open": "the collection is different and was not recorded"}
    assert again(run, STORED.replace("load.rows", "load.lines"), assume=True).state.status == "running"


def test_a_loop_that_was_none_takes_nothing_of_the_step() -> None:
    run = play(Run("- {step: each, tool: {kind: noop}}\n"), 1)
    found = again(run, EACH)
    assert found.missing == {"each#1.0": "item 0 was not recorded"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_cancelled_one_is_cancelled_again(name: str) -> None:
    run = Run(WORKFLOWS[name])
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "enough"}})
    found = again(run, WORKFLOWS[name])
    assert (found.state.status, found.missing, found.divergence) == ("cancelled", {}, None)
    assert found.log == [replace(event, seq=0) if event.cause else event for event in run.log]


def test_a_line_above_moves_the_place_of_an_error_and_changes_nothing() -> None:
    flow = CHAIN.replace("ctx.x > 0", "ctx.gone > 0")
    run = play(Run(flow), 1)
    assert run.state.status == "failed"
    found = again(run, "\n# a line more\n\n" + dedent(flow))
    assert found.divergence is None
    assert found.log[-1].payload["error"]["line"] > run.log[-1].payload["error"]["line"]
    other = again(run, flow.replace("ctx.gone > 0", "ctx.away > 0"))
    assert other.divergence is not None


def test_the_text_of_a_warning_may_change_between_releases() -> None:
    flow = (
        "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: '{{ false }}'}]}}\n"
        "- {step: b, tool: {kind: noop}}\n"
    )
    run = play(Run(flow), 1)
    end = run.log[-1]
    (warning,) = end.payload["warnings"]
    assert "next: {spec: {on_no_match: quiet}" in warning["message"]
    run.log[-1] = replace(end, payload={**end.payload, "warnings": [{**warning, "message": "of the release before"}]})
    assert again(run, flow).divergence is None
    run.log[-1] = replace(end, payload={**end.payload, "warnings": [{**warning, "step": "b"}]})
    assert again(run, flow).divergence is not None


def test_what_a_command_is_given_is_part_of_its_decision() -> None:
    reading = CHAIN.replace("{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}')
    found = again(play(Run(CHAIN), 1), reading)
    assert found.divergence is not None
    assert (found.divergence.fact.step, found.divergence.fact.type) == ("b", e.CALL_DONE)
    assert found.state.status == "completed"


def test_what_the_items_of_a_loop_are_given_is_not() -> None:
    flow = LOOP.replace("{step: a, tool: {kind: noop},", "{step: a, tool: {kind: noop}, set: {ctx.x: 1},")
    reading = flow.replace("      tool: {kind: noop}\n", '      tool: {kind: noop, input: {x: "{{ ctx.x }}"}}\n')
    assert reading != flow
    found = again(play(Run(flow), 1), reading)
    assert (found.divergence, found.state.status) == (None, "completed"), "older releases put it elsewhere"


def test_of_what_comes_at_once_each_command_takes_its_own() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    run.done("right", {"v": 1})
    run.done("more", {"v": 2})
    run.done("left", {"v": 3})
    run.done("join")
    turned = WORKFLOWS["diamond"].replace("{step: right}, ", "{step: join}, ")
    found = again(run, turned)
    assert (found.state.status, found.missing) == ("completed", {})
    assert found.state.outcomes["left"]["data"] == {"v": 3}
    assert "right" not in found.state.generations


PARALLEL = """
- step: split
  tool: {kind: noop}
  next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: each}]}
- {step: a, tool: {kind: noop}}
- step: each
  loop: {in: "{{ range(6) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: noop}
"""


def test_items_are_taken_though_another_step_beside_them_was_not_recorded() -> None:
    run = play(Run(PARALLEL), 1, defer=0.0)
    edited = PARALLEL.replace("{step: a}", "{step: b}").replace("max_in_flight: 2", "max_in_flight: 1")
    edited = edited.replace("step: a, tool: {kind: noop}", "step: b, tool: {kind: python, code: x = 1}")
    found = again(run, edited)
    assert found.missing == {"b#1": "no outcome was recorded"}
    assert found.state.outcomes["each"]["data"]["stats"]["success"] == 6


TIMED = """
- step: a
  spec: {policy: {lifecycle: {timeout: 60}}}
  tool: {kind: python, code: "result = 1"}
  next: {arcs: [{step: b, when: "{{ event.name == 'step.failed' }}"}, {step: c}]}
- {step: b, tool: {kind: python, code: "result = 1"}}
- {step: c, tool: {kind: python, code: "result = 1"}}
"""


def timed_out() -> Run:
    run = Run(TIMED)
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": e.step_deadline("a#1")})
    run.fact(e.CALL_DONE, step="a", generation=1, command_id="a#1", payload={"data": 1, e.IGNORED: "too late"})
    run.done("b")
    return run


def test_a_step_whose_time_was_over_is_so_again() -> None:
    found = again(timed_out(), TIMED)
    assert (found.divergence, found.state.status, found.missing) == (None, "completed", {})


def test_without_its_time_limit_its_outcome_is_missing() -> None:
    found = again(timed_out(), TIMED.replace("  spec: {policy: {lifecycle: {timeout: 60}}}\n", ""))
    assert found.missing == {"a#1": "no outcome was recorded"}
