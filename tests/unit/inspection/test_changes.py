"""What differs between two versions of a step is told by its place, whatever it is."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

import pytest
from tests.unit.engine.run import HEAD

from noetl_serverless.inspection.changes import ABSENT, Change, arc_changes, parameter_changes, value_changes
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Step

ONE = """
- step: one
  input: {n: "{{ workload.n }}"}
  loop: {in: "{{ [1, 2] }}", iterator: x, spec: {mode: parallel, max_in_flight: 4}}
  tool:
    kind: http
    url: "http://x/{{ iter.x }}"
    headers: {accept: text}
    params: {page: [1, 2]}
    spec:
      timeout: 7
      policy:
        rules:
          - {when: "{{ error }}", then: {do: retry, attempts: 4, backoff: fixed, delay: 2}}
          - {else: {then: {do: continue, set: {ctx.seen: "{{ output.data }}"}}}}
  set: {ctx.x: "{{ output.data }}"}
  spec: {policy: {admit: {rules: [{when: "{{ workload.go }}", then: {allow: true}}, {else: {then: {allow: false}}}]}}}
  next:
    spec: {mode: inclusive}
    arcs: [{step: two, when: "{{ ctx.x }}", set: {ctx.y: 1}}, {step: three}]
- {step: two, tool: {kind: noop}}
- {step: three, tool: {kind: noop}}
"""
PIPELINE = """
- step: one
  tool:
    - {name: get, kind: noop}
    - {name: check, kind: noop, spec: {policy: {rules: [{else: {then: {do: jump, to: get}}}]}}}
    - {name: put, kind: noop}
"""


def step(workflow: str) -> Step:
    return load_plan(HEAD + "workload: {n: 1, go: true}\nworkflow:\n" + indent(dedent(workflow), "  ")).steps["one"]


def as_tuples(changes: list[Change]) -> list[tuple[str, Any, Any]]:
    return [(change.where, change.recorded, change.now) for change in changes]


@pytest.mark.parametrize(
    ("before", "after", "where", "recorded", "now"),
    [
        ("kind: http", "kind: noop", "tool.kind", "http", "noop"),
        ("http://x/", "http://y/", "tool.url", "http://x/{{ iter.x }}", "http://y/{{ iter.x }}"),
        ("accept: text", "accept: json", "tool.headers.accept", "text", "json"),
        ("{accept: text}", "{}", "tool.headers.accept", "text", ABSENT),
        ("page: [1, 2]", "page: [1, 3]", "tool.params.page[1]", 2, 3),
        ("page: [1, 2]", "page: [1]", "tool.params.page", [1, 2], [1]),
        ("timeout: 7", "timeout: 8", "tool.timeout", 7, 8),
        ("{{ error }}", "{{ error.code }}", "tool.rules[0].when", "{{ error }}", "{{ error.code }}"),
        ("attempts: 4", "attempts: 5", "tool.rules[0].attempts", 4, 5),
        ("backoff: fixed", "backoff: linear", "tool.rules[0].backoff", "fixed", "linear"),
        ("delay: 2", "delay: 3", "tool.rules[0].delay", 2, 3),
        ("do: continue", "do: fail", "tool.rules[1].do", "continue", "fail"),
        ("ctx.seen:", "ctx.known:", "tool.rules[1].set.ctx.seen", "{{ output.data }}", ABSENT),
        ("workload.n }}", "workload.n + 1 }}", "input.n", "{{ workload.n }}", "{{ workload.n + 1 }}"),
        ("[1, 2] }}", "[1] }}", "loop.in", "{{ [1, 2] }}", "{{ [1] }}"),
        ("iterator: x", "iterator: y", "loop.iterator", "x", "y"),
        ("mode: parallel, max_in_flight: 4", "mode: sequential", "loop.mode", "parallel", "sequential"),
        ("max_in_flight: 4", "max_in_flight: 5", "loop.max_in_flight", 4, 5),
        ("policy: {admit", "policy: {failure: {mode: best_effort}, admit", "loop.best_effort", False, True),
    ],
)
def test_a_parameter(before: str, after: str, where: str, recorded: Any, now: Any) -> None:
    assert before in ONE
    changed = step(ONE.replace(before, after, 1))
    assert (where, recorded, now) in as_tuples(parameter_changes(step(ONE), changed))
    assert arc_changes(step(ONE), changed) == []


@pytest.mark.parametrize(
    ("before", "after", "where", "recorded", "now"),
    [
        ("set: {ctx.x: ", "set: {ctx.z: ", "set.ctx.z", ABSENT, "{{ output.data }}"),
        ("workload.go", "not workload.go", "admit[0].when", "{{ workload.go }}", "{{ not workload.go }}"),
        ("allow: true", "allow: false", "admit[0].allow", True, False),
        ("mode: inclusive", "mode: exclusive", "next.mode", "inclusive", "exclusive"),
        ("mode: inclusive", "mode: inclusive, on_no_match: quiet", "next.on_no_match", "complete", "quiet"),
        ("step: two,", "step: three,", "next.arcs[0].step", "two", "three"),
        ("{{ ctx.x }}", "{{ ctx.z }}", "next.arcs[0].when", "{{ ctx.x }}", "{{ ctx.z }}"),
        ("{ctx.y: 1}", "{ctx.y: 2}", "next.arcs[0].set.ctx.y", 1, 2),
        (", set: {ctx.y: 1}", "", "next.arcs[0].set", {"ctx.y": 1}, ABSENT),
    ],
)
def test_where_it_leads(before: str, after: str, where: str, recorded: Any, now: Any) -> None:
    assert before in ONE
    changed = step(ONE.replace(before, after, 1))
    assert (where, recorded, now) in as_tuples(arc_changes(step(ONE), changed))
    assert parameter_changes(step(ONE), changed) == []


def test_without_a_loop_and_an_input() -> None:
    lines = [line for line in ONE.splitlines() if "loop:" not in line and "input:" not in line]
    wheres = {change.where for change in parameter_changes(step(ONE), step("\n".join(lines).replace("iter.x", "1")))}
    assert wheres == {"tool.url", "input", "loop"}


def test_what_is_selected_of_an_output() -> None:
    one = "- {step: one, tool: {kind: noop, output: {select: [{path: $.a, as: b}]}}}\n"
    changes = parameter_changes(step(one), step(one.replace("as: b", "as: c")))
    assert as_tuples(changes) == [("tool.output.select[0].as", "b", "c")]


def test_the_tasks_of_a_pipeline_and_their_order() -> None:
    jump = step(PIPELINE.replace("do: jump, to: get", "do: jump, to: check"))
    assert as_tuples(parameter_changes(step(PIPELINE), jump)) == [("tool.check.rules[0].to", "get", "check")]
    lines = PIPELINE.strip().splitlines()
    turned = step("\n".join([*lines[:3], lines[4], lines[3]]))
    assert as_tuples(parameter_changes(step(PIPELINE), turned)) == [
        ("tool.(order)[1]", "check", "put"),
        ("tool.(order)[2]", "put", "check"),
    ]


def test_the_same_is_no_change() -> None:
    for workflow in (ONE, PIPELINE):
        assert parameter_changes(step(workflow), step("# a line\n" + workflow)) == []
        assert arc_changes(step(workflow), step("# a line\n" + workflow)) == []


def test_values_are_distinguished_down_to_their_smallest_parts() -> None:
    was = {"a": 1, "b": {"c": [1, {"d": 2}]}, "e": 1, "f": [1]}
    now = {"a": 1.0, "b": {"c": [1, {"d": 3}]}, "f": [1, 2], "g": None}
    assert as_tuples(value_changes("x", was, now)) == [
        ("x.b.c[1].d", 2, 3),
        ("x.e", 1, ABSENT),
        ("x.f", [1], [1, 2]),
        ("x.g", ABSENT, None),
    ]
    (change,) = value_changes("", {"n": [{"m": 1}]}, {"n": [{"m": 2}]}, 4)
    assert (change.where, change.generation) == ("n[0].m", 4), "a change within a value is one of the same run"
