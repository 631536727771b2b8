"""Re-deciding a log: nothing with its own playbook, and with another what a reviewer would want to read."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

import pytest
from tests.unit.engine.conftest import HEAD
from tests.unit.engine.plays import CHAIN, DIAMOND, LOOP, RECOVERY, WORKFLOWS, answers, play

from noetl_serverless.engine.canonical import canonical
from noetl_serverless.engine.diff import Diff, diff
from noetl_serverless.playbook.compile import load_plan

WITH_A_STEP_MORE = dedent(CHAIN.replace("next: {arcs: [{step: b}]}", "next: {arcs: [{step: new}]}")) + (
    "- {step: new, tool: {kind: python, code: x = 1}, next: {arcs: [{step: b}]}}\n"
)


def against(run: Any, workflow: str, head: str = "", assume: bool = False) -> Diff:
    plan = load_plan(HEAD + dedent(head) + "workflow:\n" + indent(dedent(workflow), "  "))
    found = diff("7", run.log, run.plan, plan, assume=assume)
    canonical(found.document())
    return found


def names(found: Diff, what: str) -> list[str]:
    return [f"{run.step}#{run.generation}" for run in getattr(found, what)]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_with_its_own_playbook_nothing_differs(start: Any, name: str) -> None:
    for seed in range(10):
        run = play(start(WORKFLOWS[name]), seed)
        found = diff("7", run.log, run.plan, run.plan)
        assert found.empty, (seed, found.document())
        assert not found.undetermined
        assert found.ending[0] == found.ending[1]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nor_does_it_in_the_middle_of_an_execution(start: Any, name: str) -> None:
    whole = play(start(WORKFLOWS[name]), 4)
    facts = [event.seq for event in whole.log if event.cause is None]
    for seq in facts:
        found = diff("7", whole.log[: seq - 1], whole.plan, whole.plan)
        assert found.empty and not found.undetermined, (seq, found.document())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nor_with_another_layout_of_it(start: Any, name: str) -> None:
    run = play(start(WORKFLOWS[name]), 2)
    assert against(run, "# a comment\n\n" + dedent(WORKFLOWS[name])).empty


def test_a_step_that_is_not_reached_may_change(start: Any) -> None:
    run = play(start(CHAIN), 1)
    assert against(
        run, CHAIN.replace("{step: d, tool: {kind: noop}}", "{step: d, tool: {kind: python, code: x = 1}}")
    ).empty


def test_another_condition_leads_another_way(start: Any) -> None:
    found = against(play(start(CHAIN), 1), CHAIN.replace("ctx.x > 0", "ctx.x > 5"))
    assert names(found, "added") == ["d#1"]
    assert names(found, "removed") == ["c#1"]
    (rerouted,) = found.rerouted
    assert (rerouted.run.step, rerouted.run.arcs, rerouted.now) == ("b", ["c"], ["d"])
    assert [(change.where, change.now) for change in rerouted.because] == [
        ("next.arcs[0].when", "{{ ctx.x > 5 }}"),
    ]
    assert found.divergence is not None
    assert (found.divergence["step"], found.divergence["event"]) == ("b", "call.done")
    assert found.ending[0]["status"] == found.ending[1]["status"] == "completed"
    assert (found.ending[0]["result_step"], found.ending[1]["result_step"]) == ("c", "d")


def test_what_was_not_recorded_cannot_be_told(start: Any) -> None:
    edited = CHAIN.replace("ctx.x > 0", "ctx.x > 5").replace(
        "{step: d, tool: {kind: noop}}", "{step: d, tool: {kind: python, code: x = 1}}"
    )
    found = against(play(start(CHAIN), 1), edited)
    assert found.undetermined == {"d#1": "no outcome was recorded"}
    assert found.ending[1]["status"] == "running"


def test_a_step_in_between_is_added_and_what_lies_behind_it_cannot_be_told(start: Any) -> None:
    found = against(play(start(CHAIN), 1), WITH_A_STEP_MORE)
    assert names(found, "added") == ["new#1"]
    assert found.removed == []
    assert set(found.undetermined) == {"new#1", "b#1", "c#1"}


def test_unless_it_is_assumed_to_end_well(start: Any) -> None:
    found = against(play(start(CHAIN), 1), WITH_A_STEP_MORE, assume=True)
    assert names(found, "added") == ["new#1"]
    assert found.removed == []
    assert set(found.undetermined) == {"new#1"}
    assert found.ending[1]["status"] == "completed"


def test_a_step_that_is_gone_is_removed_and_the_rest_goes_on_with_what_was_recorded(start: Any) -> None:
    edited = CHAIN.replace("next: {arcs: [{step: b}]}", "next: {arcs: [{step: c}]}")
    found = against(play(start(CHAIN), 1), edited)
    assert names(found, "removed") == ["b#1"]
    assert found.added == []
    assert found.ending[1]["status"] == "completed"
    assert not found.undetermined


def test_a_failure_arc_that_is_added_shows_what_would_have_been_done(start: Any) -> None:
    bad = "- {step: bad, tool: {kind: noop}}\n"
    edited = """
        - {step: bad, tool: {kind: noop}, next: {arcs: [{step: mend, when: "{{ event.name == 'call.error' }}"}]}}
        - {step: mend, tool: {kind: noop}}
        """
    found = against(play(start(bad), 1), edited)
    assert names(found, "added") == ["mend#1"]
    assert found.ending[0]["error"] == "boom"
    assert found.ending[1]["status"] == "completed"


def test_a_failure_arc_that_is_gone_fails(start: Any) -> None:
    def failing(step: str, generation: int, index: int | None) -> Any:
        return {"error": {"kind": "tool", "code": "down", "message": "x"}} if step == "a" else answers(step, 1, index)

    run = play(start(RECOVERY), 1, failing)
    found = against(run, RECOVERY.replace("event.name == 'call.error'", "event.name == 'loop.done'"))
    assert names(found, "removed") == ["mend#1"]
    assert found.ending[1] == {"status": "failed", "result_step": None, "error": "down", "message": "x"}


def test_another_config_of_a_tool_is_told_by_its_place(start: Any) -> None:
    run = play(start("- {step: a, tool: {kind: python, code: x = 1}}\n"), 1)
    found = against(run, "- {step: a, tool: {kind: python, code: x = 2}, spec: {timeout: 5}}\n")
    changes = {change.where: (change.recorded, change.now) for change in found.reparameterised["a"]}
    assert changes == {"tool.code": ("x = 1", "x = 2"), "tool.timeout": ("(absent)", 5)}
    assert found.divergence is not None
    assert (found.divergence["seq"], found.divergence["step"]) == (2, "a")
    assert not (found.added or found.removed or found.rerouted)


def test_another_set_changes_what_later_steps_are_given(start: Any) -> None:
    reading = CHAIN.replace("{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}')
    found = against(play(start(reading), 1), reading.replace("output.data.v", "output.data.v + 1"))
    changes = [
        (step, change.where, change.recorded, change.now)
        for step, made in found.reparameterised.items()
        for change in made
    ]
    assert changes == [("a", "set.x", 1, 2), ("c", "ctx.x", 1, 2)]


def test_a_condition_that_reads_another_default_says_so(start: Any) -> None:
    flow = CHAIN.replace("ctx.x > 0", "ctx.x > workload.least")
    found = against(play(start(flow, head="workload: {least: 0}\n"), 1), flow, head="workload: {least: 9}\n")
    (rerouted,) = found.rerouted
    assert [(change.where, change.recorded, change.now) for change in rerouted.because] == [("workload.least", 0, 9)]


def test_another_default_changes_the_steps_that_read_it_unless_it_was_given(start: Any) -> None:
    flow = '- {step: a, tool: {kind: noop, input: {n: "{{ workload.n }}", m: "{{ workload.m }}"}}}\n'
    run = play(start(flow, head="workload: {n: 1, m: 1}\n", payload={"m": 7}), 1)
    found = against(run, flow, head="workload: {n: 2, m: 2}\n")
    assert [(change.where, change.recorded, change.now) for change in found.reparameterised["a"]] == [
        ("workload.n", 1, 2)
    ]


def test_a_loop_with_an_item_more_takes_the_recorded_ones_and_waits_for_the_new_one(start: Any) -> None:
    flow = LOOP.replace("range(40) | list", "['x', 'y', 'z']")
    found = against(play(start(flow), 1), flow.replace("['x', 'y', 'z']", "['w', 'x', 'y', 'z']"))
    assert list(found.reparameterised) == ["each"]
    assert any(why == "item 0 was not recorded" for why in found.undetermined.values())
    assert "after#1" in found.undetermined


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_with_items_less_or_in_another_order_goes_on(start: Any, seed: int) -> None:
    flow = LOOP.replace("range(40) | list", "['x', 'y', 'z', 'x']")
    found = against(play(start(flow), seed), flow.replace("['x', 'y', 'z', 'x']", "['z', 'x', 'x']"))
    assert found.ending[1]["status"] == "completed"
    assert not (found.added or found.removed or found.undetermined)


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_that_is_cut_otherwise_goes_on(start: Any, seed: int) -> None:
    found = against(play(start(LOOP), seed), LOOP.replace("max_in_flight: 8", "max_in_flight: 3"))
    assert found.ending[1]["status"] == "completed"
    assert [change.where for change in found.reparameterised["each"]] == ["loop.max_in_flight"]
    assert not found.undetermined


def test_a_branch_less_in_a_diamond(start: Any) -> None:
    found = against(play(start(DIAMOND), 1), DIAMOND.replace(", {step: right}", ""))
    assert names(found, "removed") == ["right#1", "more#1"]
    assert found.ending[1]["status"] == "completed"


def test_a_sub_playbook_that_ended_ends_again(start: Any) -> None:
    flow = WORKFLOWS["parent"]
    found = against(play(start(flow), 1), flow.replace("path: t/child", "path: t/other"))
    assert [change.where for change in found.reparameterised["call"]] == ["tool.path"]
    assert found.ending[1]["status"] == "completed"
