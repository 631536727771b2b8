"""Loops: windows, frames, results, failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine import loops
from noetl_serverless.engine.frames import width_of
from noetl_serverless.engine.replay import fold

LOOP = """
    - step: each
      loop: {{in: "{{{{ {items} }}}}", iterator: x, spec: {{mode: {mode}{width}}}}}
      tool: {{kind: python, input: {{x: "{{{{ iter.x }}}}"}}, code: "result = x"}}
      {more}
      next: {{arcs: [{{step: after, when: "{{{{ event.name == 'loop.done' }}}}"}}]}}
    - {{step: after, tool: {{kind: noop}}}}
    """


def loop(items: str = "range(6) | list", mode: str = "parallel", width: int | str = 3, more: str = "") -> str:
    limit = f", max_in_flight: {width}" if mode == "parallel" else ""
    return LOOP.format(items=items, mode=mode, width=limit, more=more)


def drain(run: Run, item_ms: float = 1.0, value: Callable[[int], Any] = lambda index: index) -> int:
    """Report every frame, oldest first, until the loop is over."""
    frames = 0
    while any(command.kind == "frame" for command in run.state.commands.values()):
        name = next(name for name, command in run.state.commands.items() if command.kind == "frame")
        _, begin, end, _ = run.window(name)
        run.frame(name, [value(index) for index in range(begin, end)], item_ms=item_ms)
        frames += 1
    return frames


def test_results_come_in_the_order_of_the_items() -> None:
    run = Run(loop())
    assert len(run.state.commands) == 3, "no more than max_in_flight are out"
    run.frame("each#1.1", [1])
    run.frame("each#1.0", [0])
    drain(run)
    assert run.running == {"after"}
    assert run.state.outcomes["each"]["data"] == {
        "results": [0, 1, 2, 3, 4, 5],
        "stats": {"total": 6, "success": 6, "failed": 0},
    }


@pytest.mark.parametrize("width", ["", ', max_in_flight: "{{ none }}"'], ids=["not said", "said to be none"])
def test_sixteen_run_at_once_unless_a_loop_says_otherwise(width: str) -> None:
    run = Run(loop("range(40) | list").replace(", max_in_flight: 3", width))
    assert len(run.state.commands) == 16


def test_an_empty_collection_is_done_at_once() -> None:
    run = Run(loop("[]"))
    assert run.running == {"after"}
    assert run.state.outcomes["each"]["data"]["results"] == []


def test_sequential_has_one_frame_out() -> None:
    run = Run(loop(mode="sequential"))
    assert list(run.state.commands) == ["each#1.0"]
    drain(run, item_ms=100)
    assert [event.payload["frame"][1:3] for event in run.issued("each")] == [[n, n + 1] for n in range(6)]


def test_items_that_may_be_tried_again_do_not_share_their_first_frames() -> None:
    text = loop("range(1000) | list", width=64)
    rules = """[{when: "{{ output.status == 'error' }}", then: {do: retry}}]"""
    retried = text.replace("{kind: python,", f"{{kind: python, spec: {{policy: {{rules: {rules}}}}},")
    for playbook, frames in ((text, 16), (retried, 64)):
        assert len(Run(playbook).state.commands) == frames


def test_short_items_travel_in_frames_that_grow() -> None:
    run = Run(loop("range(5000) | list", width=16))
    frames = drain(run, item_ms=0.5)
    assert frames < 150, "five thousand short items are not five thousand commands"
    assert run.state.outcomes["each"]["ref"]["count"] == 5000


def test_a_wide_loop_is_filled_without_counting_anew_for_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr(loops, "width_of", lambda frame: looked_at.append(frame) or width_of(frame))
    run = Run(loop("range(4000) | list", width=2000))
    assert len(run.state.commands) == 500
    assert len(looked_at) <= 2 * 500, "all that is out was looked at for each that goes out"


def test_slow_items_travel_alone() -> None:
    run = Run(loop("range(40) | list", width=4))
    assert drain(run, item_ms=400) == 40


def test_large_results_leave_the_state() -> None:
    run = Run(loop("range(40) | list", width=4))
    drain(run, value=lambda index: "x" * 1000)
    ref = run.state.outcomes["each"]["ref"]
    assert ref["kind"] == "manifest"
    assert ref["ref"] == "noetl://execution/7/manifest/each/1"
    assert ref["extracted"]["stats"]["success"] == 40


@pytest.mark.parametrize("value", ["x", "x" * 9000])
def test_of_a_loop_that_fails_what_there_is_can_be_read(value: str) -> None:
    run = Run(loop("range(20) | list", width=3).replace("loop.done", "loop.failed"))
    run.frame("each#1.1", [None], failed=1, error={"code": "boom", "message": "it broke", "index": 1})
    run.frame("each#1.2", [value])
    run.frame("each#1.0", [value])
    outcome = run.state.outcomes["each"]
    if "data" in outcome:
        assert outcome["data"]["results"] == [value, None, value]
    else:
        assert (outcome["ref"]["count"], outcome["ref"]["meta"]["partial"]) == (3, True), "not all twenty"
    assert ("ref" in outcome) == (len(value) > 1)


def test_a_frame_hands_back_what_it_did_not_get_to() -> None:
    run = Run(loop("range(100) | list", mode="sequential"))
    run.frame("each#1.0", [0])
    _, begin, end, _ = run.window("each#1.1")
    assert (begin, end) == (1, 100)
    run.frame("each#1.1", list(range(1, 40)))
    assert run.window("each#1.2")[1:3] == (40, 100)
    drain(run)
    assert run.state.outcomes["each"]["data"]["results"] == list(range(100))


def test_a_failing_item_stops_the_loop_and_fails_the_step() -> None:
    run = Run(loop("range(20) | list", width=3))
    error = {"code": "boom", "message": "it broke", "index": 1}
    run.frame("each#1.1", [None], failed=1, error=error)
    run.frame("each#1.0", [0])
    assert set(run.state.commands) == {"each#1.2"}, "nothing more is issued after a failure"
    run.frame("each#1.2", [2])
    assert run.state.status == "failed"
    assert run.failure["code"] == "loop.item_failed"
    assert "1 of 20 items failed; the first: it broke" in run.failure["message"]


def test_a_failed_loop_is_recovered_under_each_of_its_names() -> None:
    for name in ("loop.failed", "call.error", "step.failed"):
        run = Run(
            f"""
            - step: each
              loop: {{in: "{{{{ [1] }}}}", iterator: x}}
              tool: {{kind: noop}}
              next: {{arcs: [{{step: alert, when: "{{{{ event.name == '{name}' }}}}"}}]}}
            - {{step: alert, tool: {{kind: noop}}}}
            """
        )
        run.frame("each#1.0", [None], failed=1, error={"code": "boom", "message": "it broke", "index": 0})
        assert run.running == {"alert"}, name


def test_best_effort_goes_on_and_counts() -> None:
    run = Run(loop(width=1, more="spec: {policy: {failure: {mode: best_effort}}}"))
    run.frame("each#1.0", [None], failed=1, error={"code": "boom", "message": "it broke", "index": 0})
    drain(run)
    assert run.running == {"after"}
    assert run.state.outcomes["each"]["data"]["stats"] == {"total": 6, "success": 5, "failed": 1}


def test_a_collection_by_reference_is_opened_by_a_worker() -> None:
    run = Run(
        """
        - {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}
        - step: each
          loop: {in: "{{ load.rows }}", iterator: row, spec: {mode: parallel, max_in_flight: 2}}
          tool: {kind: noop}
        """
    )
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/load/00000000", "extracted": {}}
    run.report("load#1", ref=ref)
    assert run.state.commands["each#1.open"].kind == "open"
    run.report("each#1.open", count=3, ref={"kind": "result_ref", "ref": "noetl://execution/7/result/each/00000000"})
    opened = next(event for event in run.log if event.type == "loop.opened")
    assert opened.payload["count"] == 3
    assert opened.payload["ref"]["ref"].endswith("/each/00000000")
    drain(run)
    assert run.state.status == "completed"


def test_a_collection_too_large_for_the_log_is_opened_by_a_worker() -> None:
    run = Run(loop("range(50000) | list"))
    assert list(run.state.commands) == ["each#1.open"]


def test_a_loop_has_a_bound() -> None:
    run = Run(loop("range(50000) | list"))
    run.report("each#1.open", count=10_000_001, ref={"kind": "result_ref", "ref": "r"})
    assert run.state.status == "failed"
    assert "at most 10000000 items" in run.failure["message"]


@pytest.mark.parametrize("items", ["5", "'text'", "missing"])
def test_what_is_no_list_fails_the_step(items: str) -> None:
    run = Run(loop(items))
    assert run.state.status == "failed"
    assert run.failure["step"] == "each"


def test_a_loop_entered_again_is_a_new_generation() -> None:
    run = Run(
        """
        - step: each
          loop: {in: "{{ [1, 2] }}", iterator: x, spec: {mode: sequential}}
          tool: {kind: noop}
          set: {ctx.pass: "{{ (ctx.pass | default(0)) + 1 }}"}
          next: {arcs: [{step: each, when: "{{ ctx.pass < 2 }}"}]}
        """
    )
    drain(run, item_ms=100)
    assert run.state.status == "completed"
    assert run.types().count("loop.done") == 2
    assert [event.generation for event in run.log if event.type == "loop.done"] == [1, 2]


def test_ctx_set_in_an_iteration_is_seen_by_the_next_frame() -> None:
    run = Run(
        """
        - step: each
          loop: {in: "{{ [1, 2] }}", iterator: x, spec: {mode: sequential}}
          tool:
            kind: python
            input: {t: "{{ ctx.total | default(0) }}"}
            code: "result = t"
            spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.total: "{{ output.data }}"}}}}]}}
        """
    )
    run.frame("each#1.0", [1], item_ms=100, set={"total": 5})
    assert run.issued("each")[1].payload["scope"] == {"ctx": {"total": 5}}


def test_a_collection_that_a_worker_rendered_and_that_is_small_comes_with_its_report() -> None:
    run = Run(
        """
        - {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}
        - {step: each, loop: {in: "{{ load.rows }}", iterator: row}, tool: {kind: noop}}
        """
    )
    run.report("load#1", ref={"kind": "result_ref", "ref": "noetl://execution/7/result/load/00000000", "extracted": {}})
    run.report("each#1.open", count=2, data=["p", "q"])
    opened = next(event for event in run.log if event.type == "loop.opened")
    assert (opened.payload["count"], opened.payload["data"]) == (2, ["p", "q"])
    assert "ref" not in opened.payload
    drain(run)
    assert run.state.outcomes["each"]["data"]["stats"]["total"] == 2


def test_a_collection_that_a_worker_could_not_render_fails_the_step() -> None:
    run = Run(loop("range(50000) | list"))
    error = {"kind": "tool", "code": "boom", "message": "it broke"}
    run.report("each#1.open", "call.error", error=error)
    assert run.state.error == {**error, "step": "each"}
    assert run.log[-2].payload == {"status": "error", "error": error}


@pytest.mark.parametrize(
    ("items", "code", "message"),
    [
        ("5", "loop.not_iterable", "loop.in must give a list, not int ('5')"),
        ("'text'", "loop.not_iterable", "loop.in must give a list, not str ('text')"),
    ],
)
def test_a_collection_that_is_no_list_is_reported_with_its_template(items: str, code: str, message: str) -> None:
    run = Run(loop(items))
    assert run.state.error == {
        "kind": "loop",
        "code": code,
        "message": message,
        "template": "{{ " + items + " }}",
        "retryable": False,
        "step": "each",
    }


@pytest.mark.parametrize(
    ("width", "message", "template"),
    [
        ("10001", "max_in_flight must be from 1 to 10000, not 10001", "{{ 10001 }}"),
        ("0", "max_in_flight must be from 1 to 10000, not 0", "{{ 0 }}"),
        ("-3", "max_in_flight must be from 1 to 10000, not -3", "{{ -3 }}"),
        ("'many'", "max_in_flight must be an integer, not 'many'", "{{ 'many' }}"),
        ("2.5", "max_in_flight must be an integer, not 2.5", "{{ 2.5 }}"),
        ("true", "max_in_flight must be an integer, not True", "{{ true }}"),
    ],
)
def test_an_impossible_width_is_reported_with_its_template(width: str, message: str, template: str) -> None:
    run = Run(loop(width=f'"{{{{ {width} }}}}"'))
    error = run.failure
    assert (error["code"], error["message"], error["template"]) == ("loop.invalid", message, template)


@pytest.mark.parametrize(("width", "out"), [("1", 1), ("'2'", 2), ("5", 5), ("4.0", 4)])
def test_a_width_may_be_rendered(width: str, out: int) -> None:
    run = Run(loop(width=f'"{{{{ {width} }}}}"'))
    assert len(run.state.commands) == out


def test_a_loop_without_items_may_be_as_wide_as_there_are_items() -> None:
    run = Run(loop("[]", width='"{{ [] | length }}"'))
    assert run.running == {"after"}


def policy(text: str, policy: str) -> str:
    return text.replace("mode: ", f"policy: {{{policy}}}, mode: ")


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_each_item_of_a_distributed_loop_is_a_command(mode: str) -> None:
    run = Run(policy(loop("range(40) | list", mode=mode), "exec: distributed"))
    assert drain(run, item_ms=0.1) == 40


def test_a_local_loop_goes_out_whole_to_one_worker() -> None:
    run = Run(policy(loop("range(1500) | list"), "exec: local"))
    drain(run, item_ms=400)
    assert [event.payload["frame"] for event in run.issued("each")] == [[0, 0, 1000, 3], [1, 1000, 1500, 3]]
    assert run.running == {"after"}


def test_items_of_a_local_loop_that_start_sub_playbooks_go_alone() -> None:
    text = policy(loop("range(4) | list", width=2), "exec: local")
    run = Run(text.replace('kind: python, input: {x: "{{ iter.x }}"}, code: "result = x"', "kind: playbook, path: t/c"))
    assert [event.payload["frame"][1:3] for event in run.issued("each")] == [[0, 1], [1, 2]]


def test_the_failure_mode_of_a_loop_may_be_in_its_own_policy() -> None:
    run = Run(policy(loop(width=1), "failure: {mode: best_effort}"))
    run.frame("each#1.0", [None], failed=1, error={"code": "boom", "message": "it broke", "index": 0})
    drain(run)
    assert run.state.outcomes["each"]["data"]["stats"] == {"total": 6, "success": 5, "failed": 1}


def test_an_object_is_one_item_and_none_is_none() -> None:
    assert Run(loop("{'a': 1}")).log[1].payload["data"] == [{"a": 1}]
    assert Run(loop("none")).running == {"after"}


def test_what_is_handed_back_goes_out_again_the_first_items_first() -> None:
    run = Run(loop("range(100) | list", width=4))
    for name in list(run.state.commands):
        run.frame(name, [0])
    first, _, _, last = [run.window(name) for name in run.state.commands]
    assert first[2] - first[1] > 3, "short items travel together"
    run.frame(f"each#1.{last[0]}", [0], item_ms=1000)
    run.frame(f"each#1.{first[0]}", [0], item_ms=1000)
    assert run.issued("each")[-1].payload["frame"][1:3] == [first[1] + 1, first[1] + 2]
    drain(run, item_ms=1000)
    assert run.state.outcomes["each"]["data"]["stats"]["success"] == 100


def test_a_failed_loop_says_what_its_first_item_said() -> None:
    run = Run(loop("range(3) | list", width=1))
    error = {"code": "boom", "message": "it broke", "index": 0}
    run.frame("each#1.0", [None], failed=1, error=error)
    assert run.state.error == {
        "kind": "loop",
        "code": "loop.item_failed",
        "message": "1 of 3 items failed; the first: it broke",
        "retryable": False,
        "item": error,
        "step": "each",
    }
    assert run.log[-2].payload["stats"] == {"total": 3, "success": 0, "failed": 1}


@pytest.mark.parametrize("items", ["[]", "5"])
def test_a_loop_that_ends_as_it_begins_was_a_loop(items: str) -> None:
    run = Run(f"- {{step: a, loop: {{in: '{{{{ {items} }}}}', iterator: x}}, tool: {{kind: noop}}}}")
    (done,) = [event for event in run.log if event.type == e.LOOP_DONE]
    state = fold("7", run.log[: done.seq])
    assert {key: token.phase for key, token in state.tokens.items()} == {"a#1": "looping"}


def test_while_a_worker_renders_its_collection_a_loop_opens() -> None:
    run = Run("- {step: a, loop: {in: '{{ range(200000) | list }}', iterator: x}, tool: {kind: noop}}")
    assert [token.phase for token in run.state.tokens.values()] == ["opening"]


def test_arcs_and_set_of_a_loop_see_that_it_has_ended() -> None:
    more = 'set: {ctx.seen: "{{ [loop.done, loop.length, each[5], each | length, each.stats.success] }}"}'
    run = Run(loop(more=more).replace("event.name == 'loop.done'", "loop.done and each[5] == 5"))
    drain(run)
    assert run.state.ctx == {"seen": [True, 6, 5, 6, 6]}
    assert run.running == {"after"}


def test_a_loop_that_has_failed_has_ended_too() -> None:
    for items, failing in (("[1, 2]", True), ("5", False)):
        text = loop(items, width=1).replace("event.name == 'loop.done'", "event.name == 'loop.failed' and loop.done")
        run = Run(text)
        if failing:
            run.frame("each#1.0", [None], failed=1, error={"code": "boom", "message": "it broke", "index": 0})
        assert run.running == {"after"}, items


def test_large_results_are_passed_on_as_a_list_by_reference() -> None:
    text = loop("range(40) | list", width=4, more='set: {ctx.all: "{{ each }}"}')
    run = Run(text.replace("event.name == 'loop.done'", "each.stats.failed == 0"))
    drain(run, value=lambda index: "x" * 1000)
    assert run.running == {"after"}
    assert run.state.ctx_refs["all"]["ref"] == "noetl://execution/7/manifest/each/1"
    assert run.state.ctx_refs["all"]["field"] == "results"
    assert "field" not in run.state.outcomes["each"]["ref"]


def test_a_loop_goes_over_the_results_of_another() -> None:
    run = Run(
        """
        - {step: one, loop: {in: [1, 2], iterator: x}, tool: {kind: noop}, next: {arcs: [{step: two}]}}
        - {step: two, loop: {in: "{{ one }}", iterator: y}, tool: {kind: noop}}
        """
    )
    run.frame("one#1.0", [10], item_ms=100)
    run.frame("one#1.1", [20], item_ms=100)
    opened = [event.payload for event in run.log if event.type == e.LOOP_OPENED]
    assert opened[1]["data"] == [10, 20]
