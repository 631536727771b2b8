from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.tables.test_value import table
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.engine.digest import items_digest
from noetl_serverless.protocol import ChildRequest
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.reader import Resolver
from noetl_serverless.tools.port import ToolOutcome

ERROR = "{{ output.status == 'error' }}"


def each(*rules: Any, config: Any = None, **loop: Any) -> Any:
    return make.step(make.task("a", *rules, config=config or {"x": "{{ item }}"}), loop=make.loop(**loop))


def echo() -> Any:
    return lambda call, context: make.ok(call.config["x"])


async def test_results_are_in_the_order_of_the_items(bench: Bench) -> None:
    async def slow_first(call: Any, context: Any) -> ToolOutcome:
        await asyncio.sleep(0.02 if call.config["x"] == "p" else 0)
        return make.ok(call.config["x"])

    bench.tool("a", slow_first)
    outcome = await bench.frame(each(), ["p", "q", "r"], concurrency=3)
    assert outcome.status == "done"
    assert outcome.data == ["p", "q", "r"]
    assert (outcome.frame.start, outcome.frame.end, outcome.frame.ok, outcome.frame.failed) == (0, 3, 3, 0)
    assert outcome.frame.item_ms > 0


async def test_no_more_than_the_concurrency_run_at_once(bench: Bench) -> None:
    running = peak = 0

    async def count(call: Any, context: Any) -> ToolOutcome:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001)
        running -= 1
        return make.ok()

    bench.tool("a", count)
    await bench.frame(each(), list(range(20)), concurrency=4)
    assert peak == 4


async def test_items_see_where_they_are(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    config = {
        "bare": "{{ user.id }}",
        "iter": "{{ iter.user.id }}",
        "index": "{{ iter._index }}",
        "first": "{{ iter._first }}",
        "last": "{{ iter._last }}",
        "loop": "{{ loop.index }}/{{ loop.length }}",
        "ends": "{{ [loop.first, loop.last, loop.done] }}",
        "alone": "{{ [_index, loop_index] }}",
        "run": "{{ loop_event_id }}",
    }
    await bench.frame(
        each(config=config, iterator="user"), [{"id": "m"}, {"id": "n"}], start=8, concurrency=1, count=10
    )
    assert [call.config for call in tool.calls] == [
        {
            "bare": "m",
            "iter": "m",
            "index": 8,
            "first": False,
            "last": False,
            "loop": "8/10",
            "ends": [False, False, False],
            "alone": [8, 8],
            "run": "42/work#1",
        },
        {
            "bare": "n",
            "iter": "n",
            "index": 9,
            "first": False,
            "last": True,
            "loop": "9/10",
            "ends": [False, True, False],
            "alone": [9, 9],
            "run": "42/work#1",
        },
    ]
    assert len({context.idempotency_key for context in tool.contexts}) == 2


async def test_the_slice_comes_out_of_a_stored_collection(bench: Bench) -> None:
    bench.tool("a", echo())
    ref = (
        await externalise(
            list("abcdef"), Place(execution_id="42", step="work", suffix="s"), bench.stores, Output(inline_bytes=0)
        )
    )["ref"]
    outcome = await bench.frame(each(), [None, None], start=2, items=None, collection=ref, count=6)
    assert outcome.data == ["c", "d"]


async def test_a_failed_item_stops_the_frame(bench: Bench) -> None:
    tool = bench.tool("a", make.ok(1), make.failed("boom"), make.ok(3))
    outcome = await bench.frame(each(), [1, 2, 3, 4], start=10, count=20)
    assert outcome.status == "error"
    assert len(tool.calls) == 2
    assert outcome.data == [1, None]
    assert (outcome.frame.start, outcome.frame.end, outcome.frame.ok, outcome.frame.failed) == (10, 12, 1, 1)
    assert outcome.frame.errors["11"]["code"] == "boom"
    assert (outcome.error["code"], outcome.error["index"]) == ("boom", 11)


async def test_best_effort_goes_on(bench: Bench) -> None:
    bench.tool("a", make.ok(1), make.failed("boom"), make.ok(3))
    outcome = await bench.frame(each(best_effort=True), [1, 2, 3])
    assert outcome.status == "done"
    assert outcome.data == [1, None, 3]
    assert (outcome.frame.ok, outcome.frame.failed, list(outcome.frame.errors)) == (2, 1, ["1"])


async def test_only_the_first_errors_are_reported(bench: Bench) -> None:
    bench.tool("a", make.failed())
    outcome = await bench.frame(each(best_effort=True), list(range(30)))
    assert outcome.frame.failed == 30
    assert list(outcome.frame.errors) == [str(index) for index in range(10)]


async def test_iter_does_not_leave_its_item(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    sets = make.rule("continue", set={"iter.mark": "{{ item }}"})
    work = each(sets, config={"x": "{{ iter.mark | default('none') }}"}, mode="sequential")
    await bench.frame(work, [1, 2])
    assert [call.config["x"] for call in tool.calls] == ["none", "none"]


async def test_iter_set_by_one_task_is_seen_by_the_next(bench: Bench) -> None:
    bench.tool("a", make.ok())
    b = bench.tool("b", make.ok())
    work = make.step(
        make.task("a", make.rule("continue", set={"iter.twice": "{{ item * 2 }}"})),
        make.task("b", config={"x": "{{ iter.twice }}"}),
        loop=make.loop(),
    )
    await bench.frame(work, [1, 2], concurrency=2)
    assert sorted(call.config["x"] for call in b.calls) == [2, 4]


async def test_items_in_sequence_see_what_those_before_have_set(bench: Bench) -> None:
    bench.tool("a", make.ok())
    add = make.rule("continue", set={"ctx.total": "{{ ctx.total + item }}"})
    outcome = await bench.frame(each(add, mode="sequential"), [1, 2, 3], ctx={"total": 10})
    assert outcome.set == {"total": 16}


@pytest.mark.parametrize(("mode", "total"), [("sequential", 16), ("parallel", 13)])
async def test_items_see_variables_as_they_see_ctx(bench: Bench, mode: str, total: int) -> None:
    bench.tool("a", make.ok())
    add = make.rule("continue", set={"vars.total": "{{ vars.total + item }}"})
    outcome = await bench.frame(each(add, mode=mode), [1, 2, 3], variables={"total": 10}, concurrency=1)
    assert outcome.set == {"vars.total": total}


async def test_a_suspended_item_sees_again_the_variables_that_it_has_set(bench: Bench) -> None:
    bench.tool("a", make.ok())
    bench.tool("b", lambda call, context: make.failed() if context.attempt == 1 else make.ok(call.config))
    work = make.step(
        make.task("a", make.rule("continue", set={"vars.mark": "own {{ item }}"})),
        make.task("b", make.rule("retry", ERROR, backoff="fixed", delay=600), config={"mark": "{{ vars.mark }}"}),
        loop=make.loop(),
    )
    first = await bench.frame(work, ["p", "q"])
    assert (first.status, first.set, first.set_by) == ("deferred", {"vars.mark": "own q"}, {"vars.mark": 1})
    second = await bench.frame(work, ["p", "q"], resume=first.resume)
    assert [item["mark"] for item in second.data] == ["own p", "own q"]


async def test_parallel_items_begin_alike_and_the_last_one_wins(bench: Bench) -> None:
    bench.tool("a", make.ok())
    add = make.rule("continue", set={"ctx.total": "{{ ctx.total + item }}"})
    outcome = await bench.frame(each(add), [1, 2, 3], ctx={"total": 10}, concurrency=2)
    assert (outcome.set, outcome.set_by) == ({"total": 13}, {"total": 2})


async def test_a_frame_says_which_item_has_set_each_key(bench: Bench) -> None:
    bench.tool("a", make.ok())
    odd = make.rule("continue", "{{ item % 2 == 1 }}", set={"ctx.odd": "{{ item }}", "ctx.any": "{{ item }}"})
    work = each(odd, make.rule("continue", set={"ctx.any": "{{ item }}"}))
    outcome = await bench.frame(work, [10, 11, 12], start=10, concurrency=3)
    assert (outcome.set, outcome.set_by) == ({"odd": 11, "any": 12}, {"odd": 11, "any": 12})


async def test_a_frame_of_a_sequence_says_that_its_items_came_in_order(bench: Bench) -> None:
    bench.tool("a", make.ok())
    work = each(make.rule("continue", set={"ctx.last": "{{ item }}"}), mode="sequential")
    assert (await bench.frame(work, [0, 1])).set_by == {}


async def test_what_items_beyond_the_reported_ones_have_set_is_not_reported(bench: Bench) -> None:
    async def hang_at_one(call: Any, context: Any) -> ToolOutcome:
        await asyncio.sleep(60 if call.config["x"] == 1 else 0)
        return make.ok()

    bench.tool("a", hang_at_one)
    work = each(make.rule("continue", set={"ctx.last": "{{ item }}"}))
    running = asyncio.create_task(bench.frame(work, [0, 1, 2], concurrency=3))
    await asyncio.sleep(0.02)
    running.cancel()
    outcome = await running
    assert (outcome.frame.end, outcome.set, outcome.set_by) == (1, {"last": 0}, {"last": 0})


async def test_a_control_plane_of_the_release_before_gets_no_field_that_it_refuses(bench: Bench) -> None:
    bench.tool("a", make.ok())
    bench.wire = 1
    outcome = await bench.frame(each(make.rule("continue", set={"ctx.last": "{{ item }}"})), [0, 1])
    assert (outcome.set, outcome.set_by) == ({"last": 1}, None)


def waiting_after_its_first_task(bench: Bench) -> Any:
    """An item that sets `mark` and then, once, waits long."""
    bench.tool("a", make.ok())
    bench.tool("b", lambda call, context: make.failed() if context.attempt == 1 else make.ok(call.config))
    return make.step(
        make.task("a", make.rule("continue", set={"ctx.mark": "own {{ item }}"})),
        make.task(
            "b",
            make.rule("retry", ERROR, backoff="fixed", delay=600),
            config={"mark": "{{ ctx.mark | default('none') }}", "given": "{{ ctx.given }}"},
        ),
        loop=make.loop(),
    )


async def test_a_suspended_item_sees_again_what_it_has_set_and_nothing_of_others(bench: Bench) -> None:
    work = waiting_after_its_first_task(bench)
    first = await bench.frame(work, ["p", "q"], ctx={"given": 1})
    assert (first.status, first.set, first.set_by) == ("deferred", {"mark": "own q"}, {"mark": 1})
    second = await bench.frame(work, ["p", "q"], ctx={"given": 1}, resume=first.resume)
    assert [item["mark"] for item in second.data] == ["own p", "own q"]
    assert second.set == {}, "it was reported when the frame was suspended"


async def test_a_suspended_item_of_a_sequence_continues_with_ctx_as_it_is(bench: Bench) -> None:
    work = waiting_after_its_first_task(bench)
    work = replace(work, loop=make.loop(mode="sequential"))
    first = await bench.frame(work, ["p"], ctx={"given": 1})
    assert (first.set, first.set_by, "set" in first.resume) == ({"mark": "own p"}, {}, False)
    second = await bench.frame(work, ["p"], ctx={"given": 1, "mark": "own p"}, resume=first.resume)
    assert second.data[0]["mark"] == "own p"


async def test_out_of_time_the_rest_is_handed_back(bench: Bench) -> None:
    def stop_at_two(call: Any, context: Any) -> ToolOutcome:
        if call.config["x"] == 2:
            bench.budget.stop()
        return make.ok(call.config["x"])

    bench.tool("a", stop_at_two)
    outcome = await bench.frame(each(), [1, 2, 3, 4])
    assert outcome.status == "done"
    assert outcome.data == [1, 2]
    assert (outcome.frame.end, outcome.frame.ok) == (2, 2)


async def test_cancelled_what_is_done_is_reported(bench: Bench) -> None:
    async def hang_at_two(call: Any, context: Any) -> ToolOutcome:
        await asyncio.sleep(60 if call.config["x"] == 2 else 0)
        return make.ok(call.config["x"])

    bench.tool("a", hang_at_two)
    running = asyncio.create_task(bench.frame(each(), [0, 1, 2, 3], concurrency=2))
    await asyncio.sleep(0.02)
    running.cancel()
    outcome = await running
    assert (outcome.status, outcome.data, outcome.frame.end) == ("done", [0, 1], 2)
    assert running.cancelling() == 0, "whatever the task does next would be cancelled"


async def test_cancelled_with_nothing_done_it_is_released(bench: Bench) -> None:
    bench.tool("a", lambda call, context: asyncio.sleep(60))
    running = asyncio.create_task(bench.frame(each(), [0, 1], concurrency=2))
    await asyncio.sleep(0.02)
    running.cancel()
    assert (await running).status == "released"


async def test_a_long_retry_defers_the_frame_and_keeps_what_is_done(bench: Bench) -> None:
    def second_fails(call: Any, context: Any) -> ToolOutcome:
        return make.failed() if call.config["x"] == 1 else make.ok(call.config["x"])

    bench.tool("a", second_fails)
    work = each(make.rule("retry", ERROR, backoff="fixed", delay=600))
    outcome = await bench.frame(work, [0, 1, 2])
    assert (outcome.status, outcome.delay, outcome.frame) == ("deferred", 600, None)

    again = bench.tool("a", echo())
    outcome = await bench.frame(work, [0, 1, 2], resume=outcome.resume)
    assert (outcome.status, outcome.data) == ("done", [0, 1, 2])
    assert [call.config["x"] for call in again.calls] == [1]
    assert again.contexts[0].attempt == 2


async def test_a_frame_that_waits_reports_what_its_items_have_set(bench: Bench) -> None:
    bench.tool("a", lambda call, context: make.failed() if call.config["x"] == 1 else make.ok(call.config["x"]))
    done = make.rule("continue", "{{ output.status == 'ok' }}", set={"ctx.seen": "{{ output.data }}"})
    outcome = await bench.frame(each(done, make.rule("retry", ERROR, backoff="fixed", delay=600)), [0, 1])
    assert (outcome.status, outcome.set) == ("deferred", {"seen": 0})


async def test_a_failed_item_of_a_frame_that_waited_is_not_run_again(bench: Bench) -> None:
    tries: list[int] = []

    def run(call: Any, context: Any) -> ToolOutcome:
        tries.append(call.config["x"])
        return make.failed("boom" if call.config["x"] == 0 else "busy")

    bench.tool("a", run)
    again = make.rule("retry", "{{ output.error.code == 'busy' }}", backoff="fixed", delay=600)
    work = each(again, make.rule("fail", ERROR), best_effort=True)
    first = await bench.frame(work, [0, 1])
    assert (first.status, sorted(tries)) == ("deferred", [0, 1])
    second = await bench.frame(work, [0, 1], resume=first.resume)
    assert (second.status, sorted(tries)) == ("deferred", [0, 1, 1]), "what failed stays so"


async def test_a_frame_waits_for_the_first_item_that_may_continue(bench: Bench) -> None:
    bench.tool("a", lambda call, context: make.failed(call.config["x"]))
    soon = make.rule("retry", "{{ output.error.code == 'soon' }}", backoff="fixed", delay=600)
    late = make.rule("retry", ERROR, backoff="fixed", delay=900)
    outcome = await bench.frame(each(soon, late), ["late", "soon", "late"])
    assert (outcome.status, outcome.delay) == ("deferred", 600)


async def test_a_failed_item_fails_a_frame_in_which_another_waits(bench: Bench) -> None:
    tool = bench.tool("a", lambda call, context: make.failed(call.config["x"]))
    again = make.rule("retry", "{{ output.error.code == 'busy' }}", backoff="fixed", delay=600)
    outcome = await bench.frame(each(again, make.rule("fail", ERROR)), ["busy", "boom"])
    assert outcome.status == "error", "it is deferred, and would run on"
    assert (outcome.error["code"], outcome.error["index"]) == ("boom", 1)
    assert len(tool.calls) == 2, "nothing was waiting"


async def test_a_frame_that_waited_is_failed_by_an_item_that_failed_before(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    failed = {"status": "error", "error": {"code": "boom", "message": "m"}}
    resume = {"items": {"data": {"0": failed}}}
    outcome = await bench.frame(each(), [0, 1], resume=resume)
    assert (outcome.status, tool.calls) == ("error", []), "an item was begun after one had failed"
    assert (outcome.error, outcome.frame.end) == ({"code": "boom", "message": "m", "index": 0}, 1)


async def test_a_sub_playbook_fails_a_frame_of_several_items(bench: Bench) -> None:
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child")), make.ok())
    work = make.step(make.task("sub"), loop=make.loop())
    outcome = await bench.frame(work, ["i", "j"])
    assert (outcome.status, outcome.child) == ("error", None)
    assert outcome.error["code"] == "loop.parked"


async def test_a_sub_playbook_fails_a_frame_of_several_items_though_the_time_ends_after_the_first(
    bench: Bench,
) -> None:
    def stop(call: Any, context: Any) -> ToolOutcome:
        bench.budget.stop()
        return ToolOutcome("ok", child=ChildRequest(path="demo/child"))

    bench.tool("sub", stop)
    outcome = await bench.frame(make.step(make.task("sub"), loop=make.loop()), ["i", "j"])
    assert (outcome.status, outcome.child) == ("error", None)
    assert outcome.error["code"] == "loop.parked"


async def test_a_cancelled_frame_in_which_an_item_waits_continues_at_once(bench: Bench) -> None:
    begun = asyncio.Event()

    async def behave(call: Any, context: Any) -> ToolOutcome:
        if call.config["x"] == 2:
            begun.set()
            await asyncio.Event().wait()
        return make.failed() if call.config["x"] == 1 else make.ok(call.config["x"])

    bench.tool("a", behave)
    work = each(make.rule("retry", ERROR, backoff="fixed", delay=600))
    running = asyncio.create_task(bench.frame(work, [0, 1, 2]))
    await begun.wait()
    running.cancel()
    outcome = await running
    assert (outcome.status, outcome.delay, outcome.frame) == ("deferred", 0.0, None)
    again = bench.tool("a", echo())
    outcome = await bench.frame(work, [0, 1, 2], resume=outcome.resume)
    assert (outcome.status, outcome.data) == ("done", [0, 1, 2])
    assert [(call.config["x"], context.attempt) for call, context in zip(again.calls, again.contexts, strict=True)] == [
        (1, 2),
        (2, 1),
    ]


async def test_in_sequence_nothing_overtakes_an_item_that_waits(bench: Bench) -> None:
    tool = bench.tool("a", make.failed())
    work = each(make.rule("retry", ERROR, backoff="fixed", delay=600), mode="sequential")
    assert (await bench.frame(work, [0, 1])).status == "deferred"
    assert len(tool.calls) == 1


async def test_a_sub_playbook_parks_a_frame_of_one(bench: Bench) -> None:
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child")))
    b = bench.tool("b", make.ok({"done": 1}))
    work = make.step(make.task("sub"), make.task("b", config={"x": "{{ sub.y }}-{{ item }}"}), loop=make.loop())
    outcome = await bench.frame(work, ["i"], start=4, count=9)
    assert (outcome.status, outcome.child.path) == ("parked", "demo/child")
    child = {"status": "ok", "data": {"y": 5}, "execution_id": "77"}
    outcome = await bench.frame(work, ["i"], start=4, count=9, resume={**outcome.resume, "child": child})
    assert (outcome.status, outcome.frame.start, outcome.frame.end) == ("done", 4, 5)
    assert b.calls[0].config == {"x": "5-i"}
    assert outcome.data[0]["results"] == {"sub": {"y": 5}, "b": {"done": 1}}


async def test_an_items_result_by_reference_is_read_into_the_list(bench: Bench) -> None:
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child")))
    ref = (
        await externalise([1, 2], Place(execution_id="7", step="e", suffix="s"), bench.stores, Output(inline_bytes=0))
    )["ref"]
    work = make.step(make.task("sub"), loop=make.loop())
    parked = await bench.frame(work, ["i"])
    outcome = await bench.frame(work, ["i"], resume={**parked.resume, "child": {"status": "ok", "ref": ref}})
    assert outcome.data == [[1, 2]]


async def test_big_results_of_a_frame_go_by_reference(bench: Bench) -> None:
    bench.tool("a", make.ok("x" * 10_000))
    outcome = await bench.frame(each(), list(range(10)))
    assert outcome.data is None
    assert outcome.ref["meta"]["row_count"] == 10
    # two runs are compared by it
    assert outcome.frame.digest == f"{items_digest(0, ['x' * 10_000] * 10):064x}"
    small = await bench.frame(each(), [1])
    assert (small.ref, small.frame.digest) == (None, None)


async def test_a_frame_without_its_items_is_an_error(bench: Bench) -> None:
    bench.tool("a")
    outcome = await bench.frame(each(), [1, 2], items=[1])
    assert outcome.status == "error"


async def test_the_last_item_is_that_of_the_loop_and_not_of_the_frame(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    config = {"last": "{{ iter._last }}", "also": "{{ loop.last }}", "length": "{{ loop.length }}"}
    await bench.frame(each(config=config), [1, 2], count=3)
    await bench.frame(each(config=config), [1, 2], count=None)
    assert [call.config for call in tool.calls] == [
        {"last": False, "also": False, "length": 3},
        {"last": False, "also": False, "length": 3},
        {"last": False, "also": False, "length": 2},
        {"last": True, "also": True, "length": 2},
    ]


async def test_a_fault_of_the_worker_in_one_of_several_items_is_reported_by_its_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any) -> Any:
        raise ZeroDivisionError("a fault of the worker")

    monkeypatch.setattr("noetl_serverless.worker.execution.frame.Pipeline.run", broken)
    bench.tool("a", make.ok())
    outcome = await bench.frame(each(), [1, 2], concurrency=2)
    assert (outcome.error["code"], outcome.error["message"]) == (
        "worker.internal",
        "ZeroDivisionError: a fault of the worker",
    )


async def test_items_that_wait_keep_each_its_own_table(bench: Bench) -> None:
    """Also when the worker that goes on has nothing at hand."""
    bench.tool("load", lambda call, context: make.ok({"rows": table([{"n": call.config["x"]}])}))
    tries: Counter[int] = Counter()

    def once_busy(call: Any, context: Any) -> ToolOutcome:
        tries[call.config["x"]] += 1
        return make.failed("busy") if tries[call.config["x"]] == 1 else make.ok(call.config["rows"])

    bench.tool("use", once_busy)
    again = make.rule("retry", ERROR, backoff="fixed", delay=600, attempts=3)
    work = make.step(
        make.task("load", config={"x": "{{ iter.item }}"}),
        make.task("use", again, config={"x": "{{ iter.item }}", "rows": "{{ load.rows[0].n }}"}),
        loop=make.loop(),
    )
    first = await bench.frame(work, [1, 2, 3], concurrency=3)
    assert first.status == "deferred"
    bench.shared.close()
    bench.resolver = Resolver(bench.stores)
    second = await bench.frame(work, [1, 2, 3], concurrency=3, resume=first.resume)
    assert second.status == "done", second.error
    found = await bench.resolver.load(second.ref)
    assert [(item["results"]["use"], item["results"]["load"]["rows"][0]["n"]) for item in found] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
