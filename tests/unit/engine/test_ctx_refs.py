"""What is of ctx, and stands in a result store: the engine passes it on and never reads it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.engine.run import Run

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.evolve import evolve
from noetl_serverless.engine.state import State
from noetl_serverless.inspection.cost import cost
from noetl_serverless.inspection.diff import diff
from noetl_serverless.inspection.expected_projections import expected_projections
from noetl_serverless.prices import load

CHAIN = """
    - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
    - step: b
      tool: {kind: python, code: "result = x", input: {x: "{{ ctx.big }}"}}
      next: {arcs: [{step: c}]}
    - {step: c, tool: {kind: python, code: "result = x", input: {x: "{{ ctx.small }}"}}}
"""


def ref(name: str = "1", size: int = 100_000, **more: Any) -> dict[str, Any]:
    return {
        "kind": "result_ref",
        "ref": f"noetl://execution/7/result/a/0000000{name}",
        "store": "memory",
        "key": f"7/a/{name}.json",
        "meta": {"bytes": size, "sha256": name * 64},
        **more,
    }


def setting(arc: str, *, head: str = "") -> str:
    return f"""
    - step: a
      tool: {{kind: noop}}
      {head}
      next: {{arcs: [{{step: b, {arc}}}]}}
    - {{step: b, tool: {{kind: python, code: "result = x", input: {{x: "{{{{ ctx.big }}}}"}}}}}}
    """


def test_a_step_that_reads_it_is_given_the_reference_and_others_are_not() -> None:
    run = Run(CHAIN)
    run.done("a", set={"small": 1}, set_refs={"big": ref()})
    assert (run.state.ctx, run.state.ctx_refs) == ({"small": 1}, {"big": ref()})
    assert run.issued("b")[0].payload["scope"] == {"ctx": {}, "steps": {}, "ctx_refs": {"big": ref()}}
    run.done("b")
    assert run.issued("c")[0].payload["scope"] == {"ctx": {"small": 1}, "steps": {}}


@pytest.mark.parametrize("first", ["value", "reference"])
def test_what_is_set_later_takes_the_place_of_what_was_set_before(first: str) -> None:
    run = Run(CHAIN)
    value, reference = {"set": {"big": 1}}, {"set_refs": {"big": ref()}}
    run.done("a", **(value if first == "value" else reference))
    run.done("b", **(reference if first == "value" else value))
    expected = ({}, {"big": ref()}) if first == "value" else ({"big": 1}, {})
    assert (run.state.ctx, run.state.ctx_refs) == expected


@pytest.mark.parametrize("kind", ["{{ a }}", "{{ a.result }}", "{{ output.data }}", "{{ ctx.old }}", "{{ old }}"])
@pytest.mark.parametrize("where", ["step", "arc"])
def test_a_whole_value_by_reference_is_passed_on_as_a_reference(kind: str, where: str) -> None:
    given = f'set: {{ctx.big: "{kind}"}}'
    run = Run(setting(given) if where == "arc" else setting("when: true", head=given))
    run.done("a", None, ref=ref("1"), set_refs={"old": ref("1")})
    assert run.state.ctx_refs["big"] == ref("1")
    (issued,) = run.issued("b")
    assert issued.payload["scope"]["ctx_refs"] == {"big": ref("1")}
    (route,) = issued.payload["routes"]
    assert (route.get("set"), route["set_refs"]) == (None, {"big": ref("1")})


def test_a_whole_loop_is_passed_on() -> None:
    run = Run(
        """
        - step: a
          loop: {in: "{{ [1] }}", iterator: n}
          tool: {kind: noop}
          set: {ctx.big: "{{ a }}"}
          next: {arcs: [{step: b}]}
        - {step: b, tool: {kind: python, code: "result = x", input: {x: "{{ ctx.big.results }}"}}}
        """
    )
    (frame,) = run.state.commands
    run.frame(frame, ["x"], ref=ref(), bytes=100_000)
    assert run.state.ctx_refs["big"]["kind"] == "manifest"


@pytest.mark.parametrize(
    "template", ["{{ a.rows }}", "{{ a | length }}", "{{ [a] }}", "{{ ctx.old.rows }}", "rows: {{ a }}", "{{ ctx }}"]
)
def test_what_would_have_to_be_made_of_it_is_refused_by_name(template: str) -> None:
    run = Run(setting(f'set: {{ctx.big: "{template}"}}'))
    run.done("a", None, ref=ref(), set_refs={"old": ref()})
    assert (run.state.status, run.failure["step"]) == ("failed", "a")
    assert "is stored by reference and cannot be read here; " in run.failure["message"]


def test_a_condition_that_asks_for_it_says_what_to_do_instead() -> None:
    run = Run(setting('when: "{{ ctx.old.rows | length > 2 }}"'))
    run.done("a", None, set_refs={"old": ref()})
    assert run.failure["message"].endswith("set the values that routing needs under separate names")
    assert "'ctx.old'" in run.failure["message"]


@pytest.mark.parametrize(("size", "is_said"), [(1_000, True), (65_536, True), (100_000, False)])
def test_only_of_a_small_result_it_is_said_that_it_need_not_be_by_reference(size: int, is_said: bool) -> None:
    run = Run(setting('when: "{{ a.rows }}"'))
    run.done("a", None, ref={**ref(), "meta": {"bytes": size}})
    assert "add it to the tool's output.select" in run.failure["message"]
    assert ("or leave out select and store" in run.failure["message"]) is is_said


def test_of_what_is_accumulated_it_is_not_said_to_select_it() -> None:
    run = Run(setting('when: "{{ a.pages[0].id == 1 }}"'))
    manifest = {"kind": "accumulated", "ref": "noetl://execution/1/result/a/pages", "count": 3}
    run.done("a", None, ref={**ref(), "collected": {"pages": manifest}})
    assert "read it in the input of a later step" in run.failure["message"]
    assert "output.select" not in run.failure["message"]


@pytest.mark.parametrize(
    "when",
    ["{{ ctx.old.n == 3 }}", "{{ ctx.get('n') == 4 }}", "{{ ctx.n == 4 }}", "{{ n == 4 and ctx.old is defined }}"],
)
def test_a_condition_reads_what_needs_no_fetch(when: str) -> None:
    run = Run(setting(f'when: "{when}"'))
    run.done("a", None, set={"n": 4}, set_refs={"old": ref(extracted={"n": 3})})
    assert run.running == {"b"}, run.state.error


def test_an_arc_sees_what_the_step_has_passed_on() -> None:
    head = 'set: {ctx.old: "{{ a }}"}'
    run = Run(setting('when: "{{ ctx.old.n == 3 }}", set: {ctx.big: "{{ ctx.old }}", ctx.old: 1}', head=head))
    run.done("a", None, ref=ref(extracted={"n": 3}), set={"old": 0})
    assert (run.state.ctx, list(run.state.ctx_refs)) == ({"old": 1}, ["big"])


def test_a_loop_over_it_is_opened_by_a_worker_and_its_frames_are_given_the_reference() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
        - step: b
          loop: {in: "{{ ctx.big }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
          tool: {kind: python, code: "result = x", input: {x: "{{ ctx.big }}"}}
        """
    )
    run.done("a", set_refs={"big": ref()})
    (opening,) = run.issued("b")
    assert (opening.payload["kind"], opening.payload["scope"]["ctx_refs"]) == ("open", {"big": ref()})
    run.done("b", None, ref=ref("2"), count=2)
    frames = [event.payload for event in run.issued("b") if event.payload["kind"] == "frame"]
    opened = next(event.payload for event in run.log if event.type == e.LOOP_OPENED)
    assert frames
    for frame in frames:
        assert {**opened["scope"], **frame["scope"]}["ctx_refs"] == {"big": ref()}


def test_the_references_count_as_what_they_are() -> None:
    run = Run(CHAIN)
    some = {f"k{n}": ref(preview="x" * 60_000) for n in range(20)}
    run.done("a", set_refs=some)
    assert run.state.status == "failed"
    assert run.failure["message"].startswith("ctx would have ")
    run = Run(setting('set: {ctx.big: "{{ a }}"}'))
    run.done("a", None, ref=ref(preview="x" * limits.SET_VALUE_BYTES))
    assert run.failure["message"].startswith("ctx.big would have ")


# -- as it is kept


def test_the_release_before_restores_a_state_that_has_references() -> None:
    run = Run(CHAIN)
    run.done("a", set={"small": 1}, set_refs={"big": ref()})
    kept = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert "ctx_refs" not in kept, "it refuses a part that it does not know"
    assert kept["outcomes"]["ctx.big"] == {"status": "held", "ref": ref()}
    assert "big" not in kept["ctx"], "it would take for the value what is none"
    assert State.restore(kept, run.state.workload).ctx_refs == {"big": ref()}
    kept["ctx"]["big"] = 1
    restored = State.restore(kept, run.state.workload)
    assert (restored.ctx["big"], restored.ctx_refs) == (1, {}), "what that release has set since is lost"


def test_a_state_that_changes_leaves_alone_the_one_before() -> None:
    run = Run(CHAIN)
    run.done("a", set_refs={"big": ref()})
    before = run.state
    report = next(event for event in run.log if event.type == e.CALL_DONE)
    step_b = run.open("b")
    evolve(
        before,
        e.Event(
            e.CALL_DONE,
            1,
            seq=99,
            cause=None,
            step="b",
            generation=1,
            command_id=step_b,
            payload={**report.payload, "set_refs": {"more": ref("2")}},
        ),
    )
    assert before.ctx_refs == {"big": ref()}


# -- what is told of it


def test_projections_list_each_stored_value_once() -> None:
    run = Run(CHAIN)
    run.done("a", None, ref=ref("3"), set_refs={"big": ref("1"), "same": ref("1"), "other": ref("2")})
    found = expected_projections("7", run.log)
    assert [row["key"] for row in found.results] == ["7/a/1.json", "7/a/2.json", "7/a/3.json"]
    assert list(found.execution["ctx_refs"]) == ["big", "same", "other"]
    assert [row["step"] for row in found.steps] == ["a", "b"], "a reference is taken for a step"


def test_a_stored_value_of_a_suspended_step_is_listed() -> None:
    run = Run(CHAIN)
    run.report(run.open("a"), e.CALL_DEFERRED, delay=1.0, set_refs={"big": ref()})
    assert [row["key"] for row in expected_projections("7", run.log).results] == ["7/a/1.json"]


def test_the_digest_covers_what_was_set_by_reference_and_not_where_it_is() -> None:
    def digest_with(**given: Any) -> str:
        run = Run(CHAIN)
        run.done("a", set_refs={"big": ref(**given)})
        run.done("b")
        run.done("c")
        return digest("7", run.log).value

    assert digest_with() == digest_with(key="7/elsewhere", preview="p")
    assert digest_with() != digest_with(meta={"bytes": 1, "sha256": "b" * 64})


def test_another_version_that_passes_on_something_else_differs() -> None:
    run = Run(setting('set: {ctx.big: "{{ a }}"}'))
    other = Run(setting('set: {ctx.big: "{{ ctx.old }}"}'))
    run.done("a", None, ref=ref("1"), set_refs={"old": ref("2")})
    run.done("b")
    found = diff("7", run.log, run.plan, other.plan)
    where = {change.where for changes in found.reparameterised.values() for change in changes}
    assert any(name.startswith("set.big") for name in where), where
    assert any(name.startswith("ctx.big") for name in where), where
    assert not diff("7", run.log, run.plan, run.plan).reparameterised


def test_what_it_takes_in_the_store_is_counted() -> None:
    run = Run(CHAIN)
    run.done("a", None, ref=ref("1", 5), set_refs={"big": ref("2", 7)})
    assert cost("7", run.log, load())["total"]["bytes"]["memory"] == 12
