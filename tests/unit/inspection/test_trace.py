"""What a log says that each run of a step was given, and what led to it."""

from __future__ import annotations

from tests.unit.engine.plays import CHAIN, LOOP, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.inspection.trace import trace


def test_a_run_keeps_what_it_was_given_first_and_what_led_to_it() -> None:
    reading = CHAIN.replace("{step: c, tool: {kind: noop}}", '{step: c, tool: {kind: noop, input: {x: "{{ ctx.x }}"}}}')
    run = play(Run(reading), 4, defer=0.9)
    found = trace(run.log)
    assert list(found.runs) == ["a#1", "b#1", "c#1"]
    assert [one.after for one in found.runs.values()] == [[], ["a#1"], ["b#1"]]
    assert [one.arcs for one in found.runs.values()] == [["b"], ["c"], []]
    assert found.runs["c#1"].scope == {"ctx": {"x": 1}, "steps": {}}
    assert (found.status, found.result_step, found.error, found.warnings) == ("completed", "c", None, [])
    assert not any(one.skipped or one.loop for one in found.runs.values())


READING = LOOP.replace(
    "tool: {kind: noop}, next: {arcs: [{step: each}]}",
    "tool: {kind: noop}, set: {ctx.n: 1}, next: {arcs: [{step: each}]}",
).replace("      tool: {kind: noop}\n", '      tool: {kind: noop, input: {n: "{{ ctx.n }}", a: "{{ a.v }}"}}\n')


def test_a_loop_keeps_what_stood_in_its_opening() -> None:
    run = Run(READING.replace("range(40)", "range(2)"))
    run.done("a", {"v": 5})
    each = trace(run.log).runs["each#1"]
    assert each.scope == {"ctx": {"n": 1}, "steps": {"a": {"status": "ok", "data": {"v": 5}}}}
    assert each.loop == {"count": 2, "data": [0, 1]}
    assert each.after == ["a#1"]


def test_of_an_older_log_a_loop_s_ctx_is_that_of_its_first_frame() -> None:
    run = Run(READING.replace("range(40)", "range(2)"))
    run.done("a", {"v": 5})
    for event in run.log:
        if event.type == e.LOOP_OPENED:
            del event.payload["scope"]["ctx"]
        elif event.type == e.ISSUED and event.payload["kind"] == "frame":
            event.payload["scope"] = {"ctx": {"n": event.payload["frame"][0]}}
    assert trace(run.log).runs["each#1"].scope["ctx"] == {"n": 0}
    for event in run.log:
        event.payload.pop("scope", None)
    assert trace(run.log).runs["each#1"].scope == {}


def test_a_loop_of_nothing_and_one_that_failed_before_it_opened_are_runs_too() -> None:
    for items, status in (("[]", "completed"), ("5", "failed")):
        found = trace(
            Run(f'- {{step: each, loop: {{in: "{{{{ {items} }}}}", iterator: x}}, tool: {{kind: noop}}}}\n').log
        )
        assert (list(found.runs), found.status) == (["each#1"], status)
        assert (found.runs["each#1"].loop is None) is (status == "failed")


def test_a_step_that_was_not_admitted_is_a_run_that_was_skipped_and_one_left_aside_is_none() -> None:
    found = trace(play(Run(WORKFLOWS["admission"]), 1).log)
    assert [(one.step, one.skipped) for one in found.runs.values()] == [("a", False), ("b", True), ("c", False)]
    assert found.runs["c#1"].after == ["b#1"]
    found = trace(play(Run(WORKFLOWS["diamond"]), 1).log)
    assert "never#1" not in found.runs
    assert sorted(found.runs["join#1"].after) == ["left#1", "more#1"]


def test_how_it_ended() -> None:
    run = Run(WORKFLOWS["failing"])
    assert (trace(run.log).status, trace(run.log).quarantined) == ("running", None)
    run.done("split")
    run.error("bad")
    found = trace(run.log)
    assert (found.status, found.result_step) == ("failed", None)
    assert found.error is not None and found.error["code"] == "boom"
    run.fact(e.CANCELLED, payload={"error": {"code": "late"}})
    assert trace(run.log).error == found.error
