"""What a worker reports is in the domain of values and within its limits, or it is an error of who made it."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless import limits
from noetl_serverless.playbook.values import InvalidValue, stored
from noetl_serverless.protocol import ChildRequest, Outcome, ReportRequest
from noetl_serverless.telemetry.masking import masking
from noetl_serverless.tools.encoding import convert
from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.worker.execution.domain import fit_outcome, to_domain

NAN = float("nan")
KEYS = st.text(max_size=4) | st.sampled_from([1, "1", None, 1.5, True])
ANY = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([(1, 2), {3}, b"x", datetime.date(2024, 1, 2), "\\u0000", "\0", "null", "\ud800"])
)
ERROR = "{{ output.status == 'error' }}"


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


BAD = [
    ({"scores": [1.0, 2.0, 3.0, NAN]}, "data.scores[3]: NaN is not JSON"),
    ([float("inf")], "data[0]: an infinite number"),
    ({"k": "a\0b"}, "data.k: a string contains a NUL character"),
    ({"k": "\udc00"}, "data.k: a string contains an unpaired surrogate"),
    (2**64, "data: an integer does not fit in 64 bits"),
    ({1: "a", "1": "b"}, "data.1: two keys of the object become the same string"),
    ({(1, 2): "a"}, "data: a key is of type tuple"),
    (b"x", "data: a value of type bytes"),
    (object(), "data: a value of type object"),
    (nested(300), "data[0][0]"),
]


def wire(outcome: Any) -> Any:
    """The outcome as the control plane gets it."""
    request = ReportRequest(worker_id="w", outcomes=[outcome])
    return ReportRequest.model_validate_json(request.model_dump_json(exclude_defaults=True)).outcomes[0]


# -- results


@pytest.mark.parametrize(("value", "place"), BAD)
async def test_a_result_that_cannot_be_stored_is_an_error_of_the_step(bench: Bench, value: Any, place: str) -> None:
    bench.tool("a", make.ok(value))
    outcome = await bench.run(make.step(make.task("a", line=33)))
    assert outcome.status == "error", f"it was taken, as {outcome.data}"
    error = outcome.error
    assert (error["kind"], error["code"], error["retryable"]) == ("value", "value.invalid", False)
    assert error["message"].startswith(f"the result cannot be stored: at {place}")
    assert (error["step"], error["task"], error["at"]) == ("work", "a", 33)


async def test_a_large_result_is_looked_at_too(bench: Bench) -> None:
    bench.tool("a", make.ok({"rows": [{"n": number} for number in range(30_000)] + [{"n": NAN}]}))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.status == "error", "it went into the store"
    assert "data.rows[30000].n: NaN" in outcome.error["message"]


async def test_rules_see_a_result_that_cannot_be_stored_as_an_error(bench: Bench) -> None:
    bench.tool("a", make.ok(NAN), make.ok(1.5))
    retry = make.rule("retry", "{{ output.error.code == 'value.invalid' }}")
    outcome = await bench.run(make.step(make.task("a", retry)))
    assert (outcome.status, outcome.data) == ("done", 1.5)
    assert [entry["error"]["code"] for entry in outcome.meta["attempts"]] == ["value.invalid"]


async def test_the_item_fails_and_not_the_frame(bench: Bench) -> None:
    bench.tool("a", lambda call, context: make.ok(NAN if call.config["i"] == 1 else call.config["i"]))
    each = make.step(make.task("a", config={"i": "{{ item }}"}), loop=make.loop(best_effort=True))
    outcome = await bench.frame(each, [0, 1, 2])
    assert (outcome.status, outcome.data) == ("done", [0, None, 2])
    assert (outcome.frame.ok, outcome.frame.failed) == (2, 1)
    assert outcome.frame.errors["1"]["code"] == "value.invalid"


async def test_what_a_failed_tool_gave_hides_its_error_no_more(bench: Bench) -> None:
    bench.tool("a", make.failed("boom", data={"body": "\0"}))
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.error["code"], outcome.data) == ("boom", None)
    assert "data.body: a string contains a NUL character" in outcome.error["left_out"]


async def test_every_task_of_a_pipeline_is_looked_at_by_name(bench: Bench) -> None:
    bench.tool("a", make.ok({"x": NAN}))
    bench.tool("b", make.ok())
    outcome = await bench.run(make.step(make.task("a"), make.task("b")))
    assert (outcome.error["code"], outcome.error["task"]) == ("value.invalid", "a")


@pytest.mark.parametrize("large", [False, True])
async def test_a_result_is_reported_in_the_form_in_which_it_is_stored(bench: Bench, large: bool) -> None:
    pad = "x" * 70_000 if large else "x"
    bench.tool("a", make.ok({3: (1, 2), "b": datetime.date(2024, 1, 2), "a": {"z", "y"}, "pad": pad}))
    outcome = await bench.run(make.step(make.task("a")))
    data = await bench.resolver.load(outcome.ref) if large else wire(outcome).data
    expected = {"3": [1, 2], "b": "2024-01-02", "a": ["y", "z"], "pad": pad}
    assert json.dumps(data) == json.dumps(expected)


async def test_the_deepest_result_fits_into_all_that_may_stand_around_it(bench: Bench) -> None:
    """Of a loop over a pipeline that goes on later, as an event has it."""
    levels = limits.RESULT_DEPTH
    bench.tool("a", make.ok(nested(levels)))
    assert (await bench.run(make.step(make.task("a")))).status == "done"
    bench.tool("b", make.failed())
    retry = make.rule("retry", ERROR, attempts=9, backoff="fixed", delay=600)
    each = make.step(make.task("a"), make.task("b", retry), loop=make.loop())
    suspended = await bench.frame(each, [1])
    stored({"payload": {"resume": suspended.resume}})
    bench.tool("b", make.ok(nested(levels)))
    outcome = await bench.frame(each, [1], resume=suspended.resume)
    assert outcome.status == "done", outcome.error
    stored({"payload": {"data": outcome.data}})


@pytest.mark.parametrize("levels", [limits.RESULT_DEPTH + 1, limits.VALUE_DEPTH + 1, 100_000])
async def test_a_result_that_is_too_deep_is_refused_with_the_limit_of_results(bench: Bench, levels: int) -> None:
    bench.tool("a", make.ok(nested(levels)))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.status == "error"
    assert f"nested deeper than {limits.RESULT_DEPTH} levels" in outcome.error["message"]


# -- what else is reported


@pytest.mark.parametrize("name", ["ctx.bad", "step.bad"])
async def test_what_a_rule_sets_is_looked_at(bench: Bench, name: str) -> None:
    bench.tool("a", make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("continue", set={name: {"x": NAN}}))))
    assert (outcome.status, outcome.error["code"], outcome.set) == ("error", "value.invalid", {})
    assert f"set.{name}.x: NaN" in outcome.error["message"]


async def test_what_a_sub_playbook_is_started_with_is_looked_at(bench: Bench) -> None:
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child", payload={"x": NAN})))
    outcome = await bench.run(make.step(make.task("sub")))
    assert (outcome.status, outcome.child) == ("error", None)
    assert "the payload of the sub-playbook cannot be stored: at child.payload.x: NaN" in outcome.error["message"]
    assert outcome.error["task"] == "sub"


async def test_what_accompanies_a_result_is_made_fit_and_does_not_fail_the_step(bench: Bench) -> None:
    extra = {"http": {"headers": {"x": "a\0b"}, "elapsed": NAN}}
    bench.tool("a", ToolOutcome("ok", data=1, extra=extra, meta={"stdout": "\0\ud800"}))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.status == "done"
    assert outcome.extra == {"http": {"headers": {"x": "a\ufffdb"}, "elapsed": None}}
    assert outcome.meta["stdout"] == "\ufffd?"


async def test_the_message_of_an_error_is_made_fit(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    # what is logged of it becomes part of the test's report, which such a text cannot be sent in
    caplog.set_level(logging.CRITICAL, "noetl_serverless")
    bench.tool("a", RuntimeError("a\0b\ud800"))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.error["message"] == "RuntimeError: a\ufffdb?"
    assert wire(outcome).error == outcome.error


async def test_what_is_nobody_elses_is_looked_at_as_it_leaves(bench: Bench) -> None:
    bench.tool("a", make.failed())
    each = make.step(
        make.task("a", make.rule("retry", ERROR, attempts=3, backoff="fixed", delay=600)), input={"x": NAN}
    )
    outcome = await bench.run(each)
    assert (outcome.status, outcome.error["code"]) == ("error", "value.invalid")
    assert "resume.locals.data.input.x: NaN" in outcome.error["message"]
    assert {"started_at", "duration_ms"} <= outcome.meta.keys()


# -- limits


@pytest.mark.parametrize(
    ("given", "part", "limit"),
    [
        (ToolOutcome("ok", extra={f"k{n}": "x" * 7000 for n in range(20)}), "'extra'", limits.EXTRA_BYTES),
        (ToolOutcome("ok", meta={f"k{n}": "x" * 7000 for n in range(20)}), "'meta'", limits.META_BYTES // 2),
        (
            ToolOutcome("ok", child=ChildRequest(path="c", payload={"x": "y" * limits.WORKLOAD_BYTES})),
            "the payload of the sub-playbook",
            limits.WORKLOAD_BYTES,
        ),
    ],
)
async def test_a_part_that_is_too_large_is_named_with_its_size_and_limit(
    bench: Bench, given: ToolOutcome, part: str, limit: int
) -> None:
    bench.tool("a", given)
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.error["code"], outcome.error["task"]) == ("error", "value.too_large", "a")
    assert outcome.error["message"].startswith(f"{part} has ")
    assert outcome.error["message"].endswith(f" bytes of JSON; the limit is {limit}")


async def test_long_errors_of_many_items_do_not_fail_the_frame(bench: Bench) -> None:
    bench.tool("a", ToolOutcome("error", error={"code": "c", "message": "m", "sql": "x" * 8000, "more": ["y" * 8000]}))
    each = make.step(make.task("a"), loop=make.loop(best_effort=True))
    outcome = await bench.frame(each, list(range(30)))
    assert (outcome.status, outcome.frame.failed, len(outcome.frame.errors)) == ("done", 30, 10)
    assert {(error["code"], error["message"]) for error in outcome.frame.errors.values()} == {("c", "m")}
    assert len(orjson.dumps(outcome.frame.errors)) <= 2 * limits.INLINE_BYTES


async def test_no_delay_is_longer_than_a_timer_may_be(bench: Bench) -> None:
    bench.tool("a", make.failed())
    retry = make.rule("retry", ERROR, attempts=9, backoff="linear", delay=1e12)
    outcome = await bench.run(make.step(make.task("a", retry)))
    assert (outcome.status, outcome.delay) == ("deferred", limits.DELAY_SECONDS)


@given(st.recursive(ANY, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)))
async def test_the_fast_way_makes_of_a_value_what_the_slow_one_does(value: Any) -> None:
    expected, refused = None, None
    try:
        expected = json.dumps(stored(value, convert))
    except InvalidValue as error:
        refused = error
    if refused is None:
        assert json.dumps(await to_domain(value, "data")) == expected
        return
    with pytest.raises(InvalidValue) as caught:
        await to_domain(value, "data")
    assert (caught.value.path, caught.value.rule) == (["data", *refused.path], refused.rule)


@pytest.mark.parametrize("name", ["attempt", "waited_ms", "delivery"])
async def test_a_secret_of_a_tool_is_masked_under_any_name(bench: Bench, name: str) -> None:
    masking.register("tops3cret-of-a-run")
    bench.tool("a", ToolOutcome("ok", meta={name: "with tops3cret-of-a-run"}))
    outcome = await bench.run(make.step(make.task("a")))
    assert "tops3cret-of-a-run" not in outcome.model_dump_json()


async def test_a_kind_of_float_is_a_float(bench: Bench) -> None:
    class Measured(float):
        """As that of numpy is one."""

    bench.tool("a", ToolOutcome("ok", extra={"pg": Measured(1.5)}, meta={"waited": Measured(2.5)}))
    outcome = wire(await bench.run(make.step(make.task("a"))))
    assert (outcome.status, outcome.extra["pg"], outcome.meta["waited"]) == ("done", 1.5, 2.5)


def test_the_payload_of_a_child_leaves_in_the_form_in_which_it_is_stored() -> None:
    outcome = Outcome(execution_id="7", command_id="a#1", fence=1, status="parked")
    outcome.child = ChildRequest(path="c", payload={"at": (1, 2)})
    fit_outcome(outcome)
    assert outcome.child.payload == {"at": [1, 2]}
