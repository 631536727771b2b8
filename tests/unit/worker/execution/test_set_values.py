"""What rules set in ctx that is too large for an event: it goes by reference, and is read like a result."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.builders import plan
from tests.unit.worker.conftest import Bench

from noetl_serverless import limits
from noetl_serverless.engine.digest import stable_digest
from noetl_serverless.limits import INLINE_BYTES, SET_BYTES, SET_REF_BYTES, SET_VALUE_BYTES, VARIABLE_BYTES
from noetl_serverless.results import retry
from noetl_serverless.results.offload import Place, externalise
from noetl_serverless.results.reader import Resolver
from noetl_serverless.worker.execution.domain import TooLarge
from noetl_serverless.worker.execution.set_values import check_sizes

MAX_VALUES = SET_BYTES // 30_000


def text(size: int) -> str:
    """A value of so many bytes of JSON."""
    return "x" * (size - 2)


def size_of(value: Any) -> int:
    return len(orjson.dumps(value))


async def sets(bench: Bench, **values: Any) -> Any:
    bench.tool("a", make.ok(values))
    rule = make.rule("continue", set={f"ctx.{name}": f"{{{{ output.data.{name} }}}}" for name in values})
    return await bench.run(make.step(make.task("a", rule)))


async def read_cold(bench: Bench, ref: dict[str, Any]) -> Any:
    return await Resolver(bench.stores).load(ref)


@pytest.mark.parametrize(("more", "stored"), [(-1, False), (0, False), (1, True)])
async def test_a_value_goes_by_reference_from_one_byte_above_the_limit(bench: Bench, more: int, stored: bool) -> None:
    value = text(SET_VALUE_BYTES + more)
    outcome = await sets(bench, big=value, n=1)
    assert outcome.status == "done", outcome.error
    if not stored:
        assert (outcome.set, outcome.set_refs) == ({"big": value, "n": 1}, {})
        return
    assert (outcome.set, list(outcome.set_refs)) == ({"n": 1}, ["big"])
    assert outcome.set_refs["big"]["meta"]["bytes"] == SET_VALUE_BYTES + 1
    assert await read_cold(bench, outcome.set_refs["big"]) == value


@pytest.mark.parametrize(("more", "status"), [(0, "done"), (1, "error")])
async def test_a_variable_never_goes_by_reference(bench: Bench, more: int, status: str) -> None:
    bench.tool("a", make.ok({"v": text(VARIABLE_BYTES + more)}))
    rule = make.rule("continue", set={"vars.v": "{{ output.data.v }}"})
    outcome = await bench.run(make.step(make.task("a", rule)))
    assert (outcome.status, outcome.set_refs) == (status, {})
    if more:
        assert outcome.error["code"] == "value.too_large"
        assert outcome.error["message"].startswith(f"'set.vars.v' has {VARIABLE_BYTES + 1} bytes")


async def test_to_make_room_for_variables_ctx_goes_by_reference(bench: Bench) -> None:
    bench.tool("a", make.ok({"v": text(60_000), "w": text(50_000), "c": text(30_000)}))
    sets = {"vars.v": "{{ output.data.v }}", "vars.w": "{{ output.data.w }}", "ctx.c": "{{ output.data.c }}"}
    outcome = await bench.run(make.step(make.task("a", make.rule("continue", set=sets))))
    assert (outcome.status, sorted(outcome.set), list(outcome.set_refs)) == ("done", ["vars.v", "vars.w"], ["c"])


def test_variables_count_in_full() -> None:
    sizes = {"vars.a": 64_000, "vars.b": 64_000, "vars.c": 10_000}
    with pytest.raises(TooLarge):
        check_sizes(sizes, by_reference=True)
    check_sizes({name.removeprefix("vars."): size for name, size in sizes.items()}, by_reference=True)


async def test_of_many_values_the_largest_go_by_reference_while_there_is_no_room(bench: Bench) -> None:
    values = {f"k{n}": text(20_000 + n) for n in range(10)} | {"small": text(7_000)}
    outcome = await sets(bench, **values)
    assert outcome.status == "done", outcome.error
    assert size_of({**outcome.set, **outcome.set_refs}) <= SET_BYTES
    least = min(size_of(values[name]) for name in outcome.set_refs)
    assert all(size_of(value) <= least for value in outcome.set.values()), "a smaller one was put away before a larger"
    assert {*outcome.set, *outcome.set_refs} == values.keys()
    for name, ref in outcome.set_refs.items():
        assert await read_cold(bench, ref) == values[name]


async def test_what_fits_not_even_by_reference_is_refused(bench: Bench) -> None:
    limit = SET_BYTES // SET_REF_BYTES
    outcome = await sets(bench, **{f"k{n}": text(SET_REF_BYTES) for n in range(limit + 1)})
    assert (outcome.status, outcome.error["code"], outcome.set, outcome.set_refs) == (
        "error",
        "value.too_large",
        {},
        {},
    )
    assert outcome.error["message"].startswith("'set' has, with all that can be by reference, ")
    assert (outcome.error["task"], outcome.error["message"].endswith(f"the limit is {SET_BYTES}")) == ("a", True)


async def test_what_the_tasks_of_a_step_set_one_after_the_other_is_bounded_together(bench: Bench) -> None:
    bench.wire = 1
    rules = [make.rule("continue", set={f"ctx.{name}": "{{ output.data }}"}) for name in "abc"]
    tasks = [make.task(name, rule) for name, rule in zip("abc", rules, strict=True)]
    for name in "abc":
        bench.tool(name, make.ok(text(SET_VALUE_BYTES - 100)))
    outcome = await bench.run(make.step(*tasks))
    assert (outcome.status, outcome.error["code"], outcome.error["task"]) == ("error", "value.too_large", "c")
    assert outcome.error["message"].startswith("'set' has ")


def test_all_that_is_set_together_is_bounded() -> None:
    limit = limits.SET_STORED_BYTES - size_of({"a": 1, "b": 1}) + 2
    check_sizes({"a": limit - 5, "b": 5}, by_reference=True)
    with pytest.raises(ValueError, match=f"'set' has {limits.SET_STORED_BYTES + 1} bytes"):
        check_sizes({"a": limit - 4, "b": 5}, by_reference=True)


async def test_a_control_plane_of_the_release_before_is_sent_no_references(bench: Bench) -> None:
    bench.wire = 1
    outcome = await sets(bench, k=text(SET_VALUE_BYTES))
    assert (outcome.status, len(outcome.set), outcome.set_refs) == ("done", 1, {})
    outcome = await sets(bench, k=text(SET_VALUE_BYTES + 1))
    assert (outcome.status, outcome.set_refs) == ("error", {}), "it refuses what it does not know"
    assert outcome.error["message"].startswith(f"'set.k' has {SET_VALUE_BYTES + 1} bytes")
    outcome = await sets(bench, **{f"k{n}": text(30_000) for n in range(MAX_VALUES + 1)})
    assert outcome.error["message"].startswith("'set' has ")
    assert (outcome.error["task"], outcome.set, outcome.set_refs) == ("a", {}, {})


async def test_a_reference_with_many_fields_is_kept_short(bench: Bench) -> None:
    value = {**{f"{n}": 1 for n in range(2_000)}, "text": "\u0001" * 70_000}
    outcome = await sets(bench, big=value)
    (ref,) = outcome.set_refs.values()
    assert size_of(ref) <= SET_REF_BYTES, "a few of these would not go into one event"
    assert await read_cold(bench, ref) == value


async def test_a_later_task_reads_the_value_itself(bench: Bench) -> None:
    bench.tool("a", make.ok({"rows": [text(70_000), 7]}))
    b = bench.tool("b")
    rule = make.rule("continue", set={"ctx.rows": "{{ output.data.rows }}"})
    each = make.step(make.task("a", rule), make.task("b", config={"n": "{{ ctx.rows[1] }}", "all": "{{ rows }}"}))
    outcome = await bench.run(each)
    assert b.calls[0].config == {"n": 7, "all": [text(70_000), 7]}
    assert list(outcome.set_refs) == ["rows"]


async def test_what_is_set_again_is_not_read_from_the_reference(bench: Bench) -> None:
    bench.tool("a")
    b = bench.tool("b")
    each = make.step(
        make.task("a", make.rule("continue", set={"ctx.big": 1})), make.task("b", config={"n": "{{ ctx.big }}"})
    )
    await run_with(bench, each, {"big": {"gone": True}})
    assert b.calls[0].config == {"n": 1}


async def test_a_suspended_step_reports_by_reference_what_it_has_set(bench: Bench) -> None:
    bench.tool("a", make.failed(data={"t": text(70_000)}))
    retry = make.rule(
        "retry", "{{ output.status == 'error' }}", backoff="fixed", delay=600, set={"ctx.t": "{{ output.data.t }}"}
    )
    outcome = await bench.run(make.step(make.task("a", retry)))
    assert (outcome.status, outcome.set, list(outcome.set_refs)) == ("deferred", {}, ["t"])


async def test_the_items_of_a_frame_set_by_reference_together(bench: Bench) -> None:
    bench.tool("a", make.ok({"v": text(70_000)}))
    same = make.rule("continue", set={"ctx.same": "{{ output.data.v }}", "ctx.last": "{{ item }}"})
    each = make.step(make.task("a", same), loop=make.loop())
    outcome = await bench.frame(each, list(range(40)))
    assert (outcome.frame.failed, outcome.set, list(outcome.set_refs)) == (0, {"last": 39}, ["same"])
    assert len(await all_of(bench)) == 2, "beside the results, what a later item has set over is stored, too"


async def test_the_item_that_makes_a_frames_set_too_large_fails_alone(bench: Bench) -> None:
    bench.tool("a", make.ok({"v": text(30_000)}))
    limit = SET_BYTES // (SET_REF_BYTES + len('"k00":,'))
    count = limit + 2
    keys = [
        make.rule("continue", f"{{{{ item == {n} }}}}", set={f"ctx.k{n:02}": "{{ output.data.v }}"})
        for n in range(count)
    ]
    each = make.step(make.task("a", *keys), loop=make.loop(best_effort=True))
    outcome = await bench.frame(each, list(range(count)))
    assert (outcome.status, list(outcome.frame.errors)) == ("done", [str(limit), str(limit + 1)])
    assert outcome.frame.errors[str(limit)]["code"] == "value.too_large"
    assert size_of({**outcome.set, **outcome.set_refs}) <= SET_BYTES


async def test_a_store_that_is_away_fails_the_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def put(key: str, data: bytes) -> Any:
        raise OSError("no space")

    monkeypatch.setattr(bench.store, "put", put)
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.0)
    outcome = await sets(bench, big=text(70_000), small=1)
    assert (outcome.status, outcome.set, outcome.set_refs) == ("error", {}, {})
    assert "no space" in outcome.error["message"]


# -- reading


async def all_of(bench: Bench) -> list[str]:
    return [key async for key in bench.store.list("")]


async def held(bench: Bench, value: Any) -> dict[str, Any]:
    put = await externalise(value, Place(execution_id="42", step="before", suffix="s"), bench.stores)
    ref: dict[str, Any] = put["ref"]
    return ref


async def run_with(bench: Bench, each: Any, refs: dict[str, Any], ctx: Any = None, **more: Any) -> Any:
    command = bench.command(each, scope={"ctx": ctx or {}, "steps": {}, "ctx_refs": refs}, **more)
    return await bench.executor.run(command, plan(each), bench.budget, bench.lease)


async def test_templates_read_what_is_by_reference_as_if_it_were_there(bench: Bench) -> None:
    value = {"rows": [1, 2, 3], "text": "x" * INLINE_BYTES, "n": 5}
    a = bench.tool("a")
    templates = {
        "whole": "{{ ctx.big }}",
        "bare": "{{ big }}",
        "field": "{{ ctx.big.rows[1] }}",
        "part": "{{ big.text | length }}",
        "keys": "{{ ctx.big.keys() | list }}",
        "got": "{{ ctx.get('big').n + ctx.get('small') + ctx.get('none', 1) }}",
        "item": "{{ ctx['big']['n'] }}",
        "all": "{{ ctx }}",
        "names": "{{ ctx.keys() | list }}",
        "has": "{{ ctx.big is defined and ctx.none is not defined and 'big' in ctx }}",
        "said": "{{ ctx.big.n }} of {{ ctx.small }}",
    }
    each = make.step(make.task("a", config=templates))
    outcome = await run_with(bench, each, {"big": await held(bench, value)}, {"small": 2})
    assert outcome.status == "done", outcome.error
    assert a.calls[0].config == {
        "whole": value,
        "bare": value,
        "field": 2,
        "part": INLINE_BYTES,
        "keys": ["rows", "text", "n"],
        "got": 8,
        "item": 5,
        "all": {"small": 2, "big": value},
        "names": ["small", "big"],
        "has": True,
        "said": "5 of 2",
    }


async def test_only_what_is_asked_for_is_fetched(bench: Bench) -> None:
    value = {"n": 5, "text": "x" * INLINE_BYTES}
    a = bench.tool("a")
    each = make.step(make.task("a", config={"n": "{{ ctx.big.n }}", "s": "{{ ctx.small }}", "t": "{{ small }}"}))
    outcome = await run_with(bench, each, {"big": await held(bench, value)}, {"small": 2})
    assert (outcome.status, a.calls[0].config) == ("done", {"n": 5, "s": 2, "t": 2})
    assert bench.resolver.misses == 0, "a field that the reference tells was fetched"


async def test_a_loop_goes_over_what_is_by_reference(bench: Bench) -> None:
    rows = [text(40_000), text(40_001)]
    each = make.step(make.task("a"), loop=make.loop(items="{{ ctx.rows }}"))
    outcome = await run_with(bench, each, {"rows": await held(bench, rows)}, kind="open")
    assert (outcome.status, outcome.count) == ("done", 2)


async def test_a_reference_to_what_is_gone_is_an_error_that_says_so(bench: Bench) -> None:
    bench.tool("a")
    ref = await held(bench, text(70_000))
    await bench.store.delete(ref["key"])
    outcome = await run_with(bench, make.step(make.task("a", config={"x": "{{ ctx.big }}"})), {"big": ref})
    assert (outcome.status, outcome.error["kind"]) == ("error", "reference")
    assert ref["ref"] in outcome.error["message"]


async def test_two_runs_compare_a_value_by_reference_without_what_differs_in_every_call(bench: Bench) -> None:
    body = text(SET_VALUE_BYTES + 1)
    answer = {"status_code": 200, "headers": {"date": "Monday"}, "url": "http://x", "elapsed": 1.5, "data": body}
    outcome = await sets(bench, answer=answer, plain=body)
    assert list(outcome.set_refs) == ["answer", "plain"]
    assert outcome.set_refs["answer"]["meta"]["digest"] == stable_digest(answer) is not None
    assert "digest" not in outcome.set_refs["plain"]["meta"], "the bytes are compared"
