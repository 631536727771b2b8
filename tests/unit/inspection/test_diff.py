"""Re-deciding a log: nothing with its own playbook, and with another what a reviewer would want to read."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent, indent
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, DIAMOND, LOOP, RECOVERY, WORKFLOWS, answers, play
from tests.unit.engine.run import HEAD, Run

from noetl_serverless.engine.canonical import canonical
from noetl_serverless.inspection.diff import Diff, diff
from noetl_serverless.playbook.load import load_plan

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
def test_with_its_own_playbook_nothing_differs(name: str) -> None:
    for seed in range(10):
        run = play(Run(WORKFLOWS[name]), seed)
        found = diff("7", run.log, run.plan, run.plan)
        assert found.empty, (seed, found.document())
        assert not found.undetermined
        assert found.ending[0] == found.ending[1]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nor_does_it_in_the_middle_of_an_execution(name: str) -> None:
    whole = play(Run(WORKFLOWS[name]), 4)
    facts = [event.seq for event in whole.log if event.cause is None]
    for seq in facts:
        found = diff("7", whole.log[: seq - 1], whole.plan, whole.plan)
        assert found.empty and not found.undetermined, (seq, found.document())


SIBLING = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}
- {step: b, tool: {kind: python, code: "result = 1", input: {c: "{{ c.status | default('none') }}"}}}
- {step: c, tool: {kind: noop}}
"""


def test_nor_in_a_log_whose_step_does_not_know_that_its_sibling_is_skipped() -> None:
    """As the first releases wrote it."""
    run = Run(SIBLING)
    run.done("a")
    run.done("b", 1)
    (issued,) = run.issued("b")
    assert issued.payload["scope"]["steps"] == {"c": {"status": "skipped"}}
    scope = {**issued.payload["scope"], "steps": {}}
    older = replace(issued, payload={**issued.payload, "scope": scope})
    run.log = [older if event is issued else event for event in run.log]
    assert diff("7", run.log, run.plan, run.plan).empty
    changed = against(run, SIBLING.replace("result = 1", "result = 2"))
    assert [change.where for change in changed.reparameterised["b"]] == ["tool.code"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nor_with_another_layout_of_it(name: str) -> None:
    run = play(Run(WORKFLOWS[name]), 2)
    assert against(run, "# a comment\n\n" + dedent(WORKFLOWS[name])).empty


def test_a_step_that_is_not_reached_may_change() -> None:
    run = play(Run(CHAIN), 1)
    assert against(
        run, CHAIN.replace("{step: d, tool: {kind: noop}}", "{step: d, tool: {kind: python, code: x = 1}}")
    ).empty


def test_another_condition_leads_another_way() -> None:
    found = against(play(Run(CHAIN), 1), CHAIN.replace("ctx.x > 0", "ctx.x > 5"))
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


def test_what_was_not_recorded_is_uncertain() -> None:
    edited = CHAIN.replace("ctx.x > 0", "ctx.x > 5").replace(
        "{step: d, tool: {kind: noop}}", "{step: d, tool: {kind: python, code: x = 1}}"
    )
    found = against(play(Run(CHAIN), 1), edited)
    assert found.undetermined == {"d#1": "no outcome was recorded"}
    assert found.ending[1]["status"] == "running"


def test_a_step_in_between_is_added_and_what_lies_behind_it_is_uncertain() -> None:
    found = against(play(Run(CHAIN), 1), WITH_A_STEP_MORE)
    assert names(found, "added") == ["new#1"]
    assert found.removed == []
    assert set(found.undetermined) == {"new#1", "b#1", "c#1"}


def test_unless_it_is_assumed_to_end_well() -> None:
    found = against(play(Run(CHAIN), 1), WITH_A_STEP_MORE, assume=True)
    assert names(found, "added") == ["new#1"]
    assert found.removed == []
    assert set(found.undetermined) == {"new#1"}
    assert found.ending[1]["status"] == "completed"


def test_a_step_that_is_gone_is_removed_and_the_rest_goes_on_with_what_was_recorded() -> None:
    edited = CHAIN.replace("next: {arcs: [{step: b}]}", "next: {arcs: [{step: c}]}")
    found = against(play(Run(CHAIN), 1), edited)
    assert names(found, "removed") == ["b#1"]
    assert found.added == []
    assert found.ending[1]["status"] == "completed"
    assert not found.undetermined


def test_a_failure_arc_that_is_added_shows_what_would_have_been_done() -> None:
    bad = "- {step: bad, tool: {kind: noop}}\n"
    edited = """
        - {step: bad, tool: {kind: noop}, next: {arcs: [{step: mend, when: "{{ event.name == 'call.error' }}"}]}}
        - {step: mend, tool: {kind: noop}}
        """
    found = against(play(Run(bad), 1), edited)
    assert names(found, "added") == ["mend#1"]
    assert found.ending[0]["error"] == "boom"
    assert found.ending[1]["status"] == "completed"


def test_a_failure_arc_that_is_gone_fails() -> None:
    def failing(step: str, generation: int, index: int | None) -> Any:
        return {"error": {"kind": "tool", "code": "down", "message": "x"}} if step == "a" else answers(step, 1, index)

    run = play(Run(RECOVERY), 1, failing)
    found = against(run, RECOVERY.replace("event.name == 'call.error'", "event.name == 'loop.done'"))
    assert names(found, "removed") == ["mend#1"]
    assert found.ending[1] == {"status": "failed", "result_step": None, "error": "down", "message": "x"}


def test_another_config_of_a_tool_is_reported_by_its_place() -> None:
    run = play(Run("- {step: a, tool: {kind: python, code: x = 1}}\n"), 1)
    found = against(run, "- {step: a, tool: {kind: python, code: x = 2}, spec: {timeout: 5}}\n")
    changes = {change.where: (change.recorded, change.now) for change in found.reparameterised["a"]}
    assert changes == {"tool.code": ("x = 1", "x = 2"), "tool.timeout": ("(absent)", 5)}
    assert found.divergence is not None
    assert (found.divergence["seq"], found.divergence["step"]) == (2, "a")
    assert not (found.added or found.removed or found.rerouted)


def test_another_set_changes_what_later_steps_are_given() -> None:
    reading = CHAIN.replace("{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}')
    found = against(play(Run(reading), 1), reading.replace("output.data.v", "output.data.v + 1"))
    changes = [
        (step, change.where, change.recorded, change.now)
        for step, made in found.reparameterised.items()
        for change in made
    ]
    assert changes == [("a", "set.x", 1, 2), ("c", "ctx.x", 1, 2)]


def test_a_condition_that_reads_another_default_says_so() -> None:
    flow = CHAIN.replace("ctx.x > 0", "ctx.x > workload.least")
    found = against(play(Run(flow, head="workload: {least: 0}\n"), 1), flow, head="workload: {least: 9}\n")
    (rerouted,) = found.rerouted
    assert [(change.where, change.recorded, change.now) for change in rerouted.because] == [("workload.least", 0, 9)]


def test_another_default_changes_the_steps_that_read_it_unless_it_was_given() -> None:
    flow = '- {step: a, tool: {kind: noop, input: {n: "{{ workload.n }}", m: "{{ workload.m }}"}}}\n'
    run = play(Run(flow, head="workload: {n: 1, m: 1}\n", payload={"m": 7}), 1)
    found = against(run, flow, head="workload: {n: 2, m: 2}\n")
    assert [(change.where, change.recorded, change.now) for change in found.reparameterised["a"]] == [
        ("workload.n", 1, 2)
    ]


def test_a_loop_with_an_item_more_takes_the_recorded_ones_and_waits_for_the_new_one() -> None:
    flow = LOOP.replace("range(40) | list", "['x', 'y', 'z']")
    found = against(play(Run(flow), 1), flow.replace("['x', 'y', 'z']", "['w', 'x', 'y', 'z']"))
    assert list(found.reparameterised) == ["each"]
    assert any(why == "item 0 was not recorded" for why in found.undetermined.values())
    assert "after#1" in found.undetermined


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_with_items_less_or_in_another_order_goes_on(seed: int) -> None:
    flow = LOOP.replace("range(40) | list", "['x', 'y', 'z', 'x']")
    found = against(play(Run(flow), seed), flow.replace("['x', 'y', 'z', 'x']", "['z', 'x', 'x']"))
    assert found.ending[1]["status"] == "completed"
    assert not (found.added or found.removed or found.undetermined)


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_that_is_cut_otherwise_goes_on(seed: int) -> None:
    found = against(play(Run(LOOP), seed), LOOP.replace("max_in_flight: 8", "max_in_flight: 3"))
    assert found.ending[1]["status"] == "completed"
    assert [change.where for change in found.reparameterised["each"]] == ["loop.max_in_flight"]
    assert not found.undetermined


def test_a_branch_less_in_a_diamond() -> None:
    found = against(play(Run(DIAMOND), 1), DIAMOND.replace(", {step: right}", ""))
    assert names(found, "removed") == ["right#1", "more#1"]
    assert found.ending[1]["status"] == "completed"


def test_a_sub_playbook_that_ended_ends_again() -> None:
    flow = WORKFLOWS["parent"]
    found = against(play(Run(flow), 1), flow.replace("path: t/child", "path: t/other"))
    assert [change.where for change in found.reparameterised["call"]] == ["tool.path"]
    assert found.ending[1]["status"] == "completed"


def test_a_document_contains_all_of_it() -> None:
    run = play(Run(CHAIN), 1, defer=0.0)
    found = against(run, CHAIN.replace("ctx.x > 0", "ctx.x > 5"))
    (c,) = [{"step": "c", "generation": 1, "after": ["b#1"], "skipped": False}]
    condition = {"where": "next.arcs[0].when", "recorded": "{{ ctx.x > 0 }}", "now": "{{ ctx.x > 5 }}"}
    assert found.document() == {
        "execution_id": "7",
        "recorded": {"path": "t/t", "plan_hash": run.plan.hash},
        "now": {"path": "t/t", "plan_hash": found.plan.hash},
        "empty": False,
        "divergence": {
            "seq": 5,
            "event": "call.done",
            "step": "b",
            "generation": 1,
            "recorded": ["command.issued c#1 (b -> c)", "step.skipped d"],
            "now": ["command.issued d#1 (b -> d)", "step.skipped c"],
        },
        "added": [{**c, "step": "d"}],
        "removed": [c],
        "rerouted": [
            {
                **c,
                "step": "b",
                "after": ["a#1"],
                "event": "call.done",
                "recorded": ["c"],
                "now": ["d"],
                "because": [condition],
            }
        ],
        "reparameterised": [],
        "undetermined": {},
        "ending": {
            "recorded": {"status": "completed", "result_step": "c"},
            "now": {"status": "completed", "result_step": "d"},
        },
    }


def test_a_change_within_one_run_says_which() -> None:
    flow = WORKFLOWS["again"]
    found = against(play(Run(flow), 1), flow.replace("default(0) + 1", "default(0) + 2"))
    (poll,) = found.document()["reparameterised"]
    assert {"where": "set.n", "recorded": 1, "now": 2, "generation": 1} in poll["changes"]
    (rerouted,) = found.document()["rerouted"]
    assert {"where": "set.n", "recorded": 2, "now": 4, "generation": 2} in rerouted["because"]
    assert names(found, "removed") == ["poll#3"]


def test_a_change_that_each_run_has_is_reported_once() -> None:
    flow = WORKFLOWS["again"]
    edited = flow.replace("tool: {kind: noop}\n", "tool: {kind: noop, wait: 1}\n", 1)
    found = against(play(Run(flow), 1), edited)
    assert [change.where for change in found.reparameterised["poll"]] == ["tool.wait"]
    assert found.divergence is not None
    assert (found.divergence["seq"], found.divergence["now"]) == (2, ["the same step with other tool.wait"])
    assert found.divergence["recorded"] == ["poll#1 as it was"]


GIVEN = CHAIN.replace(
    "{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {b: "{{ b.v | default(0) }}"}}}'
)
PAST = GIVEN.replace("next: {arcs: [{step: b}]}", "next: {arcs: [{step: c}]}")


def test_an_outcome_that_a_step_reads_and_no_longer_finds_is_reported() -> None:
    found = against(play(Run(GIVEN), 1), PAST)
    (change,) = found.reparameterised["c"]
    assert (change.where, change.now, change.generation) == ("b", "(absent)", 1)
    assert change.recorded["data"]["of"] == "b"


def test_what_one_version_alone_reads_is_reported_with_the_template_that_reads_it() -> None:
    for was, now in ((GIVEN, CHAIN), (CHAIN, GIVEN)):
        found = against(play(Run(was), 1), now)
        assert [change.where for change in found.reparameterised["c"]] == ["tool.input"]
    reading = CHAIN.replace("{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}')
    for was, now in ((reading, CHAIN), (CHAIN, reading)):
        found = against(play(Run(was), 1), now)
        assert [change.where for change in found.reparameterised["c"]] == ["tool.input"]


def test_a_value_of_ctx_that_is_no_longer_set_is_reported_for_each_reader() -> None:
    flow = CHAIN.replace(
        "{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {y: "{{ ctx.y | default(0) }}"}}}'
    )
    setting = flow.replace("ctx.x: ", "ctx.y: 5, ctx.x: ")
    (change,) = against(play(Run(setting), 1), flow).reparameterised["c"]
    assert (change.where, change.recorded, change.now) == ("ctx.y", 5, "(absent)")
    (change,) = against(play(Run(flow), 1), setting).reparameterised["c"]
    assert (change.where, change.recorded, change.now) == ("ctx.y", "(absent)", 5)


def test_decisions_that_look_alike_are_distinguished_by_what_is_in_them() -> None:
    flow = CHAIN.replace("ctx.x > 0", "ctx.gone > 0")
    edited = flow.replace("ctx.gone > 0", f"ctx.away == '{'a' * 300}'")
    found = against(play(Run(flow), 1, defer=0.0), edited)
    assert found.divergence is not None
    assert (found.divergence["step"], found.divergence["event"]) == ("b", "call.done")
    was, now = found.divergence["recorded"], found.divergence["now"]
    assert 'playbook.failed b template.error: error.name = "gone"' in was
    assert 'playbook.failed b template.error: error.name = "away"' in now
    (long,) = [line for line in now if "error.template = " in line]
    assert long.endswith("aaa...")
    assert len(long.partition(" = ")[2]) == 200


def test_an_end_in_failure_is_reported_by_its_code() -> None:
    found = against(play(Run(CHAIN), 1, defer=0.0), CHAIN.replace("ctx.x > 0", "ctx.gone > 0"))
    assert found.divergence is not None
    assert found.divergence["now"] == ["playbook.failed b template.error"]
    assert set(names(found, "removed")) == {"c#1"}


def test_what_a_running_one_waits_for_is_no_difference() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    run.done("left")
    found = against(run, DIAMOND.replace("{step: more, tool: {kind: noop}", "{step: more, tool: {kind: noop, x: 1}"))
    assert found.empty and not found.undetermined
    edited = DIAMOND.replace(
        "{step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}", "{step: left, tool: {kind: noop}}"
    )
    found = against(run, edited)
    assert [(one.run.step, one.now) for one in found.rerouted] == [("left", [])]
    assert found.document()["divergence"]["now"] == ["step.exit left#1 (left -> end)"]
    assert found.undetermined == {}, "the recorded one waits for the same command"


def test_no_log_and_no_log_are_the_same() -> None:
    run = Run(CHAIN)
    found = diff("7", [], run.plan, run.plan)
    assert found.empty
    assert found.document()["added"] == []


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ workload.n }}", ["workload.n"]),
        ("{{ n }}", ["workload.n"]),
        ("{{ workload.deep.x }}", ["workload.deep.x"]),
        ("{{ workload.rows[0] }}", ["workload.rows[0]"]),
        ("{{ workload }}", ["workload.n", "workload.m", "workload.deep.x", "workload.rows[0]"]),
        ("{{ workload.same }}", []),
        ("{{ execution_id }}", []),
    ],
)
def test_of_the_workload_only_what_is_read_counts(template: str, expected: list[str]) -> None:
    flow = f'- {{step: a, tool: {{kind: noop, input: {{x: "{template}"}}}}}}\n'
    was = "workload: {n: 1, m: 1, deep: {x: 1}, rows: [1, 2], same: 1}\n"
    run = play(Run(flow, head=was), 1)
    found = against(run, flow, head="workload: {n: 2, m: 2, deep: {x: 2}, rows: [2, 2], same: 1}\n")
    assert [change.where for change in found.reparameterised.get("a", [])] == expected


def test_of_a_stored_collection_the_sum_is_shown() -> None:
    flow = """
        - {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}
        - {step: each, loop: {in: "{{ load.rows }}", iterator: row}, tool: {kind: noop}}
        """
    run = Run(flow)
    run.report("load#1", ref={"kind": "result_ref", "ref": "noetl://execution/7/result/load/0", "extracted": {}})
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/each/0", "meta": {"sha256": "s"}}
    run.report("each#1.open", count=2, ref=ref)
    run.frame("each#1.0", [1])
    run.frame("each#1.1", [2])
    assert run.state.status == "completed"
    found = against(run, flow.replace("load.rows", "[1, 2]"))
    changes = {change.where: (change.recorded, change.now) for change in found.reparameterised["each"]}
    assert changes["loop items"] == ({"count": 2, "sha256": "s"}, [1, 2])


RETURNS = """
- {step: a, tool: {kind: noop}}
"""


def test_a_version_whose_schema_refuses_the_input_parts_at_the_start() -> None:
    run = Run(RETURNS, payload={"n": 1})
    run.done("a", 1)
    found = against(run, RETURNS, "workload: {n: 0}\nschemas: {input: {properties: {n: {type: string}}}}\n")
    assert not found.empty
    assert found.divergence is not None
    assert (found.divergence["seq"], found.divergence["event"]) == (1, "playbook.initialized")
    assert found.divergence["now"][1] == "input.invalid: /n: this must be a string, not 1"
    assert against(run, RETURNS, "workload: {n: 0}\nschemas: {input: {properties: {n: {type: integer}}}}\n").empty


def test_a_version_whose_schema_refuses_the_result_parts_at_the_end() -> None:
    run = Run(RETURNS)
    run.done("a", 1)
    found = against(run, RETURNS, "schemas: {result: {type: string}}\n")
    assert found.divergence is not None
    assert (found.ending[0]["status"], found.ending[1]["status"]) == ("completed", "failed")
    assert "does not fit schemas.result" in str(found.ending[1])
    assert against(run, RETURNS, "schemas: {result: {type: integer}}\n").empty
