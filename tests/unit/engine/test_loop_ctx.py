"""What the items of a loop set in ctx: what they see of it, and which value is there in the end."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from tests.unit.engine.run import Run, plain

from noetl_serverless.engine import events as e
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.state import OF_LOOP, State

LOOP = """
    - step: each
      loop: {{in: "{{{{ range({count}) | list }}}}", iterator: x, spec: {{mode: {mode}}}}}
      tool:
        kind: python
        input: {{seen: "{{{{ ctx.last | default('none') }}}}"}}
        code: "result = x"
        spec: {{policy: {{rules: [{{else: {{then: {{do: continue, set: {{ctx.last: "{{{{ iter.x }}}}"}}}}}}}}]}}}}
      next: {{arcs: [{{step: each, when: "{{{{ ctx.again | default(false) }}}}"}}, {{step: after}}]}}
    - {{step: after, tool: {{kind: noop}}}}
    """


def loop(count: int = 6, mode: str = "parallel, max_in_flight: 6") -> str:
    return LOOP.format(count=count, mode=mode)


def setting(run: Run, command: str, *items: int, **more: Any) -> None:
    """A frame whose items set `last`, the last of them `items[-1]`."""
    run.frame(command, list(items), set={"last": items[-1]}, set_by={"last": items[-1]}, item_ms=100, **more)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 3, 1, 4]])
def test_of_parallel_items_the_highest_one_wins_whatever_order_they_end_in(order: list[int]) -> None:
    run = Run(loop())
    for item in order:
        setting(run, f"each#1.{item}", item)
    assert run.state.ctx == {"last": 5}
    assert run.state.writers == {}, "what only the loop needs outlives it"
    assert run.issued("after")


def test_each_key_has_its_own_last_writer() -> None:
    run = Run(loop(4, "parallel, max_in_flight: 4"))
    run.frame("each#1.3", [3], set={"a": 3}, set_by={"a": 3})
    run.frame("each#1.1", [1], set={"a": 1, "b": 1}, set_by={"a": 1, "b": 1})
    run.frame("each#1.2", [2])
    run.frame("each#1.0", [0], set={"b": 0, "c": 0}, set_by={"b": 0, "c": 0})
    assert run.state.ctx == {"a": 3, "b": 1, "c": 0}


def test_it_is_the_same_however_the_loop_is_cut_suspended_and_handed_back() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        run = Run(loop(30, f"parallel, max_in_flight: {draw.choice((2, 5, 12))}"))
        while run.state.loops:
            _step(run, draw)
        assert run.state.ctx == {f"k{n}": 29 - (29 - n) % 7 for n in range(7)} | {"last": 29}, f"seed {seed}"


def _step(run: Run, draw: random.Random) -> None:
    """One command or timer goes on. Item `i` sets `last` and `k<i % 7>` to `i`."""
    name = draw.choice(sorted([*run.state.commands, *run.state.timers]))
    if name in run.state.timers:
        run.fact(e.TIMER_FIRED, step="each", generation=1, payload={"timer": name})
        return
    _, start, end, _ = run.window(name)
    end = draw.randint(start + 1, end)
    values = {key: item for item in range(start, end) for key in ("last", f"k{item % 7}")}
    more: dict[str, Any] = {"set": values, "set_by": dict(values)}
    if draw.random() < 0.3 and run.state.commands[name].attempt < 4:
        run.report(name, e.CALL_DEFERRED, delay=1, resume={}, **more)
    else:
        run.frame(name, list(range(start, end)), item_ms=draw.choice((1, 20, 100)), **more)


def test_a_lower_item_does_not_undo_what_is_set_by_reference_nor_the_other_way_round() -> None:
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/each/00000001", "key": "7/each/1.json"}
    run = Run(loop(3, "parallel, max_in_flight: 3"))
    run.frame("each#1.1", [1], set_refs={"last": ref}, set_by={"last": 1})
    setting(run, "each#1.0", 0)
    assert (run.state.ctx, run.state.ctx_refs) == ({}, {"last": ref})
    setting(run, "each#1.2", 2)
    assert (run.state.ctx, run.state.ctx_refs) == ({"last": 2}, {})


def test_what_one_item_sets_again_after_it_was_suspended_replaces_what_it_set_before() -> None:
    run = Run(loop(1, "parallel"))
    run.report("each#1.0", e.CALL_DEFERRED, delay=1, resume={"set": {}}, set={"last": "first"}, set_by={"last": 0})
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="each", generation=1, payload={"timer": timer})
    run.frame("each#1.0@2", [0], set={"last": "second"}, set_by={"last": 0})
    assert run.state.ctx == {"last": "second"}


def test_a_second_run_of_the_loop_begins_anew() -> None:
    run = Run(loop(2, "parallel, max_in_flight: 2"))
    run.frame("each#1.1", [1], set={"last": "old", "again": True}, set_by={"last": 1, "again": 1})
    run.frame("each#1.0", [0])
    run.frame("each#2.0", [0], set={"last": "new", "again": False}, set_by={"last": 0, "again": 0})
    assert run.state.ctx == {"last": "new", "again": False}


def test_a_log_of_an_earlier_release_folds_in_the_order_of_its_reports() -> None:
    run = Run(loop(2, "parallel, max_in_flight: 2"))
    run.frame("each#1.1", [1], set={"last": 1})
    run.frame("each#1.0", [0], set={"last": 0})
    assert run.state.ctx == {"last": 0}


def test_items_of_a_parallel_loop_see_ctx_as_it_was_when_the_loop_was_opened() -> None:
    run = Run(loop(4, "parallel, max_in_flight: 2"))
    setting(run, "each#1.0", 0)
    setting(run, "each#1.1", 1)
    opened = next(event for event in run.log if event.type == e.LOOP_OPENED)
    assert opened.payload["scope"] == {"ctx": {}, "steps": {}}
    assert [event.payload["scope"] for event in run.issued("each")] == [{}] * 4


def test_a_frame_continues_with_the_ctx_of_the_opening_if_it_kept_what_its_items_have_set() -> None:
    for resume, scope in (({"items": {}, "set": {"data": {}}}, {}), ({"items": {}}, {"ctx": {"last": 1}, "steps": {}})):
        run = Run(loop(2, "parallel, max_in_flight: 2"))
        run.report("each#1.0", e.CALL_DEFERRED, delay=1, resume=resume)
        setting(run, "each#1.1", 1)
        (timer,) = run.state.timers
        run.fact(e.TIMER_FIRED, step="each", generation=1, payload={"timer": timer})
        assert run.issued("each")[-1].payload["scope"] == scope, "a worker of the release before keeps nothing"


def test_items_of_a_sequential_loop_see_what_those_before_have_set() -> None:
    run = Run(loop(3, "sequential"))
    for item in range(2):
        run.frame(f"each#1.{item}", [item], set={"last": item}, item_ms=100)
    scopes = [event.payload["scope"] for event in run.issued("each")]
    assert scopes == [{"ctx": {}}, {"ctx": {"last": 0}}, {"ctx": {"last": 1}}]


def test_the_release_before_reads_the_state_of_such_a_loop() -> None:
    run = Run(loop(3, "parallel, max_in_flight: 3"))
    setting(run, "each#1.2", 2)
    snapshot = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert "writers" not in snapshot, "that release refuses a part that it does not know"
    assert snapshot["outcomes"] == {f"{OF_LOOP}each#1": {"status": "held", "writers": {"last": 2}}}
    restored = State.restore(snapshot, {})
    assert (restored.writers, restored.outcomes) == ({"each#1": {"last": 2}}, {})


def test_the_writers_of_a_loop_that_the_release_before_has_ended_are_forgotten() -> None:
    run = Run(loop(3, "parallel, max_in_flight: 3"))
    setting(run, "each#1.2", 2)
    snapshot = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert State.restore({**snapshot, "loops": {}}, {}).writers == {}


def test_nothing_of_it_is_left_when_the_execution_ends_under_the_loop() -> None:
    run = Run(loop(3, "parallel, max_in_flight: 3"))
    setting(run, "each#1.2", 2)
    run.fact(e.CANCELLED, payload={"reason": "enough"})
    assert (run.state.status, run.state.writers) == ("cancelled", {})
    assert plain(fold("7", run.log)) == plain(run.state)


def test_in_a_sequential_loop_what_is_reported_last_wins_whatever_index_it_is_said_to_be_of() -> None:
    run = Run("- {step: each, loop: {in: [1, 2, 3], iterator: n}, tool: {kind: noop}}")
    # as it is written down for a worker of the previous release, whose suspended frame says nothing of items
    run.report("each#1.0", e.CALL_DEFERRED, delay=1, set={"x": 1}, set_by={"x": 2})
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="each", generation=1, payload={"timer": timer})
    run.frame(run.open("each"), [1], set={"x": 2}, set_by={"x": 0})
    assert run.state.ctx == {"x": 2}
    assert not run.state.writers
