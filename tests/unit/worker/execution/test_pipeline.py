from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.errors import NotFound
from noetl_serverless.limits import PAYLOAD_BYTES
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.template import Template
from noetl_serverless.protocol import VERSION, ChildRequest, Frame
from noetl_serverless.results import retry
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.telemetry.logs import JsonFormatter
from noetl_serverless.tools.fair_queue import Share
from noetl_serverless.tools.port import ToolFailure, ToolOutcome
from noetl_serverless.worker.execution import pipeline
from noetl_serverless.worker.execution.backoff import backoff
from noetl_serverless.worker.execution.time_budget import TimeBudget

ERROR = "{{ output.status == 'error' }}"


# -- one task, no rules


async def test_a_single_tool_gives_its_data(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.data, outcome.error) == ("done", {"n": 1}, None)
    assert outcome.meta["attempt"] == 1
    assert {"duration_ms", "started_at"} <= outcome.meta.keys()


async def test_a_tool_learns_for_which_run_it_waits_and_its_weight(bench: Bench) -> None:
    tool = bench.tool("a")
    single, looped = make.step(make.task("a")), make.step(make.task("a"), loop=make.loop())
    frame = {"frame": Frame(index=0, start=0, end=1, concurrency=1), "count": 1, "items": [1]}
    for step, more in ((single, {}), (looped, {"kind": "frame", **frame})):
        await bench.executor.run(bench.command(step, **more), replace(make.plan(step), weight=30), bench.budget)
    assert [context.share for context in tool.contexts] == [Share("h", 30)] * 2


async def test_an_error_fails_the_step_and_says_where(bench: Bench) -> None:
    bench.tool("a", make.failed("boom", http={"status": 503}))
    outcome = await bench.run(make.step(make.task("a", line=33)))
    assert outcome.status == "error"
    assert outcome.error == {
        "kind": "fake",
        "code": "boom",
        "retryable": True,
        "message": "it went boom",
        "at": 33,
    }
    assert outcome.extra == {"http": {"status": 503}}


async def test_input_of_the_task_wins_over_that_of_the_step(bench: Bench) -> None:
    tool = bench.tool("a")
    each = make.step(
        make.task("a", config={"input": {"x": "{{ workload.n + 1 }}"}, "url": "{{ ctx.base }}/y"}),
        input={"x": 0, "y": "{{ first.k }}"},
    )
    steps = {"first": {"status": "ok", "data": {"k": "v"}}}
    await bench.run(each, ctx={"base": "http://b"}, steps=steps, workload={"n": 4})
    assert tool.calls[0].input == {"x": 5, "y": "v"}
    assert tool.calls[0].config == {"url": "http://b/y"}


async def test_an_input_that_is_no_object_fails_the_step(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    outcome = await bench.run(make.step(make.task("a"), input=make.tree("{{ [1] }}")))
    assert (outcome.status, outcome.error["code"]) == ("error", "request.invalid")
    assert "the input of step" in outcome.error["message"]
    assert tool.calls == []


async def test_an_input_that_is_null_is_an_empty_one(bench: Bench) -> None:
    tool = bench.tool("a", make.ok())
    outcome = await bench.run(
        make.step(make.task("a"), input=make.tree("{{ workload.nothing }}")), workload={"nothing": None}
    )
    assert (outcome.status, [call.input for call in tool.calls]) == ("done", [{}])


async def test_a_missing_name_fails_the_step_with_its_place(bench: Bench) -> None:
    tool = bench.tool("a")
    outcome = await bench.run(make.step(make.task("a", config={"x": "{{ workload.nix }}"}, line=12)))
    assert outcome.status == "error"
    assert outcome.error["code"] == "template.error"
    assert outcome.error["retryable"] is False
    assert outcome.error["at"] == 12
    assert outcome.error["name"] == "nix"
    assert tool.calls == []


async def test_rules_see_a_template_error_as_an_error(bench: Bench) -> None:
    bench.tool("a")
    each = make.step(
        make.task("a", make.rule("continue", "{{ output.error.code == 'template.error' }}"), config={"x": "{{ nix }}"})
    )
    assert (await bench.run(each)).status == "done"


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (RuntimeError("oops"), "a", "tool.internal"),
        (ToolFailure("http", "refused", "no"), "http", "refused"),
        (NotFound("no credential x"), "a", "resource.not_found"),
    ],
)
async def test_what_a_tool_raises_becomes_its_error(bench: Bench, raised: Exception, kind: str, code: str) -> None:
    bench.tool("a", raised)
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.error["kind"], outcome.error["code"]) == ("error", kind, code)


async def test_an_unknown_kind_is_an_error(bench: Bench) -> None:
    outcome = await bench.run(make.step(make.task("a", kind="nix")))
    assert outcome.error["code"] == "tool.unavailable"


async def test_a_tool_that_ignores_its_timeout_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.worker.execution.toolbox.OVERTIME_SECONDS", 0.0)
    bench.tool("a", lambda call, context: asyncio.sleep(60))
    outcome = await bench.run(make.step(make.task("a", timeout=0.01)))
    assert outcome.error["code"] == "tool.timeout"
    assert outcome.error["retryable"] is True


@pytest.mark.parametrize("timeout", ["{{ 0 }}", "{{ 86400 * 10 }}", "{{ '0s' }}", "{{ '2d' }}"])
async def test_a_timeout_from_a_template_has_the_bounds_of_a_written_one(bench: Bench, timeout: str) -> None:
    tool = bench.tool("a")
    each = replace(make.task("a"), timeout=Template(timeout))
    outcome = await bench.run(make.step(each))
    assert outcome.error["code"] == "template.error"
    assert "a timeout must be more than 0 s and at most 86400 s" in outcome.error["message"]
    assert tool.calls == []


async def test_a_timeout_from_a_template_may_have_units(bench: Bench) -> None:
    tool = bench.tool("a")
    await bench.run(make.step(replace(make.task("a"), timeout=Template("{{ '1m' }}"))))
    assert [call.timeout for call in tool.calls] == [60.0]


async def test_secrets_of_a_credential_do_not_get_into_errors(bench: Bench) -> None:
    async def leak(call: Any, context: Any) -> ToolOutcome:
        credential = await context.credential("db")
        raise RuntimeError(f"cannot log in as {credential.data['user']} with {credential.data['password']}")

    bench.tool("a", leak)
    outcome = await bench.run(make.step(make.task("a")))
    assert "s3cr3t-value" not in outcome.model_dump_json()
    assert "ann" in outcome.error["message"]


# -- several tasks


async def test_a_pipeline_gives_the_last_data_and_that_of_each(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    bench.tool("b", make.ok({"m": 2}))
    outcome = await bench.run(make.step(make.task("a"), make.task("b")))
    assert outcome.data == {"m": 2, "results": {"a": {"n": 1}, "b": {"m": 2}}, "status": "ok"}


async def test_data_that_is_no_object_is_under_prev(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    bench.tool("b", make.ok([1, 2]))
    outcome = await bench.run(make.step(make.task("a"), make.task("b")))
    assert outcome.data == {"_prev": [1, 2], "results": {"a": {"n": 1}, "b": [1, 2]}, "status": "ok"}


async def test_tasks_see_what_came_before(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    bench.tool("b", make.ok([7]))
    c = bench.tool("c")
    config = {
        "label": "{{ a.n }}",
        "all": "{{ results }}",
        "prev": "{{ _prev }}",
        "me": "{{ _task }}",
        "try": "{{ _attempt }}",
    }
    await bench.run(make.step(make.task("a"), make.task("b"), make.task("c", config=config)))
    assert c.calls[0].config == {
        "label": 1,
        "all": {"a": {"n": 1}, "b": [7]},
        "prev": [7],
        "me": "c",
        "try": 1,
    }


async def test_a_failed_task_ends_the_pipeline(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    bench.tool("b", make.failed())
    c = bench.tool("c")
    outcome = await bench.run(make.step(make.task("a"), make.task("b", line=20), make.task("c")))
    assert outcome.status == "error"
    assert outcome.error["failed_task"] == "b"
    assert outcome.error["at"] == 20
    assert outcome.data["results"]["a"] == {"n": 1}
    assert c.calls == []


# -- rules


async def test_the_first_rule_that_matches_wins(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 5}))
    rules = [
        make.rule("fail", "{{ output.data.n > 9 }}"),
        make.rule("continue", "{{ output.data.n > 3 }}", set={"ctx.won": "second"}),
        make.rule("fail"),
    ]
    outcome = await bench.run(make.step(make.task("a", *rules)))
    assert (outcome.status, outcome.set) == ("done", {"won": "second"})


@pytest.mark.parametrize("text", ["false", "no", "0", ""])
async def test_a_text_that_says_no_does_not_match(bench: Bench, text: str) -> None:
    bench.tool("a", make.ok({"answer": text}))
    outcome = await bench.run(make.step(make.task("a", make.rule("fail", "{{ output.data.answer }}"))))
    assert outcome.status == "done"


async def test_if_no_rule_matches_an_error_fails_and_ok_goes_on(bench: Bench) -> None:
    never = make.rule("break", "{{ false }}")
    bench.tool("a", make.ok(1))
    bench.tool("b", make.failed())
    assert (await bench.run(make.step(make.task("a", never)))).status == "done"
    assert (await bench.run(make.step(make.task("b", never)))).status == "error"


async def test_continue_forgives_an_error(bench: Bench) -> None:
    bench.tool("a", make.failed(data={"partial": 1}))
    bench.tool("b", make.ok({"m": 2}))
    outcome = await bench.run(make.step(make.task("a", make.rule("continue", ERROR)), make.task("b")))
    assert outcome.status == "done"
    assert outcome.data["results"] == {"a": {"partial": 1}, "b": {"m": 2}}


async def test_fail_fails_what_went_well(bench: Bench) -> None:
    bench.tool("a", make.ok({"rows": []}))
    outcome = await bench.run(make.step(make.task("a", make.rule("fail", "{{ output.data.rows | length == 0 }}"))))
    assert outcome.status == "error"
    assert outcome.error["code"] == "rule.fail"
    assert outcome.data == {"rows": []}


async def test_break_ends_the_pipeline_well(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 1}))
    b = bench.tool("b")
    outcome = await bench.run(make.step(make.task("a", make.rule("break")), make.task("b")))
    assert outcome.status == "done"
    assert outcome.data == {"n": 1, "results": {"a": {"n": 1}}, "status": "break"}
    assert b.calls == []


async def test_a_rule_whose_condition_cannot_be_evaluated_fails_the_step(bench: Bench) -> None:
    bench.tool("a", make.ok({}))
    each = make.step(make.task("a", make.rule("continue", "{{ output.data.nix > 1 }}"), line=44))
    outcome = await bench.run(each)
    assert outcome.status == "error"
    assert outcome.error["code"] == "template.error"


async def test_rules_see_http_and_error_details(bench: Bench) -> None:
    bench.tool("a", make.failed("http.status", http={"status": 429, "headers": {}}))
    when = "{{ output.http.status == 429 and output.error.retryable and error.code == 'http.status' }}"
    assert (await bench.run(make.step(make.task("a", make.rule("continue", when))))).status == "done"


# -- retry


async def test_retry_calls_again_until_it_works(bench: Bench) -> None:
    tool = bench.tool("a", make.failed(), make.failed(), make.ok({"n": 1}))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=5))))
    assert (outcome.status, outcome.meta["attempt"]) == ("done", 3)
    assert [context.attempt for context in tool.contexts] == [1, 2, 3]


async def test_attempts_count_the_first_one(bench: Bench) -> None:
    tool = bench.tool("a", make.failed())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=3))))
    assert len(tool.calls) == 3
    assert outcome.status == "error"
    assert outcome.error["code"] == "boom"
    assert outcome.error["attempts"] == 3


@pytest.mark.parametrize(("wire", "code"), [(VERSION, "rule.retry_exhausted"), (1, "retry_exhausted")])
async def test_a_code_is_reported_as_the_control_plane_spells_it(bench: Bench, wire: int, code: str) -> None:
    bench.wire = wire
    bench.tool("a", make.ok({"state": "pending"}))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", attempts=2))))
    assert outcome.error["code"] == code


async def test_retrying_what_went_well_fails_when_exhausted(bench: Bench) -> None:
    bench.tool("a", make.ok({"state": "pending"}))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", attempts=2))))
    assert (outcome.status, outcome.error["code"]) == ("error", "rule.retry_exhausted")


async def test_a_retried_call_has_the_same_key_and_renders_anew(bench: Bench) -> None:
    tool = bench.tool("a", make.failed(), make.ok())
    retry = make.rule("retry", ERROR, set={"ctx.seen": "{{ _attempt }}"})
    await bench.run(make.step(make.task("a", retry, config={"x": "{{ ctx.seen }}"})), ctx={"seen": 0})
    assert [call.config["x"] for call in tool.calls] == [0, 1]
    assert len({context.idempotency_key for context in tool.contexts}) == 1


@pytest.mark.parametrize(
    ("kind", "waits"),
    [("none", [0, 0, 0]), ("fixed", [2, 2, 2]), ("linear", [2, 4, 6]), ("exponential", [2, 4, 8])],
)
def test_backoff(kind: Any, waits: list[float]) -> None:
    assert [backoff(kind, 2.0, attempt) for attempt in (1, 2, 3)] == waits


def test_a_wait_is_at_most_max_delay() -> None:
    assert [backoff("exponential", 2.0, attempt, longest=5.0) for attempt in (1, 2, 3)] == [2, 4, 5]


def test_backoff_does_not_overflow() -> None:
    assert backoff("exponential", 1.0, 10_000) == 86_400


async def test_short_delays_are_slept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bench.tool("a", make.failed())
    retry = make.rule("retry", ERROR, attempts=4, backoff="linear", delay=0.5)
    outcome = await bench.run(make.step(make.task("a", retry)))
    assert outcome.status == "error"
    assert slept == [0.5, 1.0, 1.5]


async def test_a_long_delay_gives_the_worker_back(bench: Bench) -> None:
    bench.tool("a", make.failed())
    retry = make.rule("retry", ERROR, backoff="fixed", delay=600, set={"ctx.tries": "{{ _attempt }}"})
    each = make.step(make.task("a", retry))
    outcome = await bench.run(each)
    assert (outcome.status, outcome.delay, outcome.set) == ("deferred", 600, {"tries": 1})
    assert outcome.resume["attempt"] == 2

    tool = bench.tool("a", make.ok({"n": 1}))
    outcome = await bench.run(each, resume=outcome.resume, attempt=2, command_id="work#1@2")
    assert (outcome.status, outcome.data) == ("done", {"n": 1})
    assert [context.attempt for context in tool.contexts] == [2]


@pytest.mark.parametrize(
    ("delay", "budget"), [(5.5, 600.0), (2.0, 1.0)], ids=["more than is slept", "more than is left"]
)
async def test_a_wait_is_given_back_if_it_is_long_or_if_the_time_is_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, delay: float, budget: float
) -> None:
    async def sleep(seconds: float) -> None:
        raise AssertionError(f"{seconds} s were slept")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bench.budget = TimeBudget(budget, clock=lambda: 0.0)
    bench.tool("a", make.failed())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, backoff="fixed", delay=delay))))
    assert (outcome.status, outcome.delay) == ("deferred", delay)


DELAYED = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: delayed}
workflow:
  - step: a
    LOOP
    tool:
      kind: noop
      spec: {policy: {rules: [{when: "{{ output.status == 'error' }}", then: {do: retry, THEN}}]}}
"""


@pytest.mark.parametrize("loop", [False, True], ids=["of a step", "of a loop's items"])
@pytest.mark.parametrize(
    ("then", "waits"),
    [
        ("attempts: 4, delay: 2", [2, 2, 2]),
        ("delay: 2", [2, 2]),
        ("delay: 0", []),
        ("attempts: 4", []),
        ("backoff: linear", [1, 2]),
        ("backoff: none, delay: 2", []),
    ],
)
async def test_a_retry_waits_as_its_rule_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, then: str, waits: list[float], loop: bool
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bench.tool("noop", make.failed())
    written = "loop: {in: [1], iterator: n}" if loop else "desc: once"
    each = load_plan(DELAYED.replace("LOOP", written).replace("THEN", then)).steps["a"]
    outcome = await (bench.frame(each, [1]) if loop else bench.run(each))
    assert outcome.status == "error"
    assert slept == waits, f"a rule with '{then}' waits otherwise"


async def test_attempts_go_on_counting_after_a_deferral(bench: Bench) -> None:
    bench.tool("a", make.failed())
    each = make.step(make.task("a", make.rule("retry", ERROR, attempts=2, backoff="fixed", delay=600)))
    outcome = await bench.run(each, resume=(await bench.run(each)).resume)
    assert outcome.status == "error"


# -- jump


async def test_jump_goes_to_a_label(bench: Bench) -> None:
    page = bench.tool("page", lambda call, context: make.ok({"n": call.config["p"], "more": call.config["p"] < 3}))
    store = bench.tool("store", make.ok())
    each = make.step(
        make.task("begin", make.rule("continue", set={"ctx.page": 1})),
        make.task("page", config={"p": "{{ ctx.page }}"}),
        make.task(
            "store",
            make.rule("jump", "{{ page.more }}", to="page", set={"ctx.page": "{{ ctx.page + 1 }}"}),
            make.rule("break"),
        ),
    )
    bench.tool("begin")
    outcome = await bench.run(each)
    assert outcome.status == "done"
    assert [call.config["p"] for call in page.calls] == [1, 2, 3]
    assert len(store.calls) == 3
    assert outcome.set == {"page": 3}
    assert len({context.idempotency_key for context in page.contexts}) == 3


async def test_a_jump_back_runs_the_earlier_task_again(bench: Bench) -> None:
    a = bench.tool("a", make.ok())
    bench.tool("b", make.failed(), make.ok())
    outcome = await bench.run(make.step(make.task("a"), make.task("b", make.rule("jump", ERROR, to="a"))))
    assert outcome.status == "done"
    assert len(a.calls) == 2


async def test_a_jump_to_nowhere_is_an_error(bench: Bench) -> None:
    bench.tool("a")
    outcome = await bench.run(make.step(make.task("a", make.rule("jump", to="nix"))))
    assert outcome.error["code"] == "rule.no_target"


async def test_attempts_begin_anew_after_a_jump(bench: Bench) -> None:
    a = bench.tool("a", make.failed(), make.ok(), make.failed(), make.ok())
    bench.tool("b", make.ok({"again": True}), make.ok({"again": False}))
    each = make.step(
        make.task("a", make.rule("retry", ERROR, attempts=2)),
        make.task("b", make.rule("jump", "{{ output.data.again }}", to="a")),
    )
    assert (await bench.run(each)).status == "done"
    assert [context.attempt for context in a.contexts] == [1, 2, 1, 2]


async def test_a_jump_that_never_ends_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_VISITS", 20)
    tool = bench.tool("a")
    outcome = await bench.run(make.step(make.task("a", make.rule("jump", to="a"))))
    assert (outcome.status, outcome.error["code"]) == ("error", "rule.endless")
    assert len(tool.calls) == 21, "the first, and as many as it may visit"


# -- set


async def test_ctx_set_by_a_rule_is_seen_later_and_reported(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 3}))
    b = bench.tool("b")
    sets = {"ctx.total": "{{ ctx.total + output.data.n }}", "step.half": "{{ output.data.n / 2 }}"}
    each = make.step(
        make.task("a", make.rule("continue", set=sets)),
        make.task("b", config={"t": "{{ total }}", "h": "{{ step.half }}"}),
    )
    outcome = await bench.run(each, ctx={"total": 4})
    assert b.calls[0].config == {"t": 7, "h": 1.5}
    assert outcome.set == {"total": 7}


async def test_variables_set_by_a_rule_are_seen_later_and_reported_beside_ctx(bench: Bench) -> None:
    bench.tool("a", make.ok({"n": 3}))
    b = bench.tool("b")
    sets = {"vars.total": "{{ vars.total + output.data.n }}", "ctx.total": "{{ vars.total }}"}
    each = make.step(
        make.task("a", make.rule("continue", set=sets)),
        make.task("b", config={"v": "{{ vars.total }}", "c": "{{ ctx.total }}", "other": "{{ vars.other }}"}),
    )
    outcome = await bench.run(each, variables={"total": 4, "other": "o"})
    assert b.calls[0].config == {"v": 7, "c": 4, "other": "o"}
    assert outcome.set == {"total": 4, "vars.total": 7}


async def test_all_values_are_rendered_before_any_takes_effect(bench: Bench) -> None:
    bench.tool("a")
    swap = make.rule("continue", set={"ctx.x": "{{ ctx.y }}", "ctx.y": "{{ ctx.x }}"})
    outcome = await bench.run(make.step(make.task("a", swap)), ctx={"x": 1, "y": 2})
    assert outcome.set == {"x": 2, "y": 1}


async def test_what_was_set_before_a_failure_is_reported(bench: Bench) -> None:
    bench.tool("a", make.failed())
    outcome = await bench.run(make.step(make.task("a", make.rule("fail", set={"ctx.why": "{{ error.code }}"}))))
    assert (outcome.status, outcome.set) == ("error", {"why": "boom"})


# -- results by reference


async def test_a_big_result_goes_by_reference(bench: Bench) -> None:
    bench.tool("a", make.ok({"rows": ["x" * 100] * 1000, "n": 1000}))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.data is None
    assert outcome.ref["extracted"] == {"n": 1000}
    assert (await bench.resolver.load(outcome.ref))["n"] == 1000


async def test_selected_fields_are_extracted(bench: Bench) -> None:
    bench.tool("a", make.ok({"page": {"next": 7}}))
    output = {"select": [{"path": "$.page.next", "as": "cursor"}]}
    outcome = await bench.run(make.step(make.task("a", output=output)))
    assert outcome.ref["extracted"] == {"cursor": 7}


async def test_a_selection_that_is_too_large_is_refused_with_the_line_of_its_tool(bench: Bench) -> None:
    bench.tool("a", make.ok({"text": "x" * 20_000}))
    task = make.task("a", output={"select": [{"path": "$.text", "as": "text"}]})
    outcome = await bench.run(make.step(task))
    assert outcome.error["code"] == "request.invalid"
    assert outcome.error["at"] == task.place.line, "it does not say where it is written"


async def test_tasks_of_a_pipeline_select_from_their_own_data(bench: Bench) -> None:
    bench.tool("a", make.ok({"page": {"next": 7}}))
    bench.tool("b", make.ok([{"id": 8}]))
    a = make.task("a", output={"select": [{"path": "$.page.next", "as": "cursor"}]})
    b = make.task("b", output={"select": [{"path": "$[0].id", "as": "first"}]})
    outcome = await bench.run(make.step(a, b))
    assert outcome.ref["extracted"] == {"status": "ok", "cursor": 7, "first": 8}


async def test_a_template_reads_through_a_reference(bench: Bench) -> None:
    ref = (
        await externalise(
            {"rows": [1, 2, 3], "n": 3},
            Place(execution_id="42", step="load", suffix="s"),
            bench.stores,
            Output(inline_bytes=0),
        )
    )["ref"]
    tool = bench.tool("a")
    each = make.step(
        make.task("a", config={"n": "{{ load.n }}", "rows": "{{ load.rows }}"}), input={"all": "{{ load }}"}
    )
    await bench.run(each, steps={"load": {"status": "ok", "ref": ref}})
    assert tool.calls[0].config == {"n": 3, "rows": [1, 2, 3]}
    assert tool.calls[0].input == {"all": {"rows": [1, 2, 3], "n": 3}}


async def test_extracted_fields_need_no_store(bench: Bench) -> None:
    ref = (
        await externalise(
            {"n": 3}, Place(execution_id="42", step="load", suffix="s"), bench.stores, Output(inline_bytes=0)
        )
    )["ref"]
    await bench.store.delete(ref["key"])
    tool = bench.tool("a")
    await bench.run(
        make.step(make.task("a", config={"n": "{{ load.n }}"})), steps={"load": {"status": "ok", "ref": ref}}
    )
    assert tool.calls[0].config == {"n": 3}


async def test_a_reference_that_is_gone_is_a_retryable_error(bench: Bench) -> None:
    ref = (
        await externalise(
            {"rows": [1]}, Place(execution_id="42", step="load", suffix="s"), bench.stores, Output(inline_bytes=0)
        )
    )["ref"]
    await bench.store.delete(ref["key"])
    bench.tool("a")
    each = make.step(make.task("a", config={"x": "{{ load.rows }}"}, line=9))
    outcome = await bench.run(each, steps={"load": {"status": "ok", "ref": ref}})
    assert outcome.status == "error"
    assert outcome.error["code"] == "REFERENCE_NOT_AVAILABLE"
    assert outcome.error["retryable"] is True
    assert outcome.error["at"] == 9


async def test_a_store_that_fails_for_good_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def put(key: str, data: bytes) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr(bench.store, "put", put)
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.2)
    bench.tool("a", make.ok("x" * 70_000))
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.error["code"], outcome.error["retryable"]) == (
        "error",
        "result_store.unavailable",
        True,
    )


async def test_a_result_that_is_no_json_is_an_error(bench: Bench) -> None:
    bench.tool("a", make.ok({"x": object()}))
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.status == "error"
    assert "JSON" in outcome.error["message"]


# -- sub-playbooks


def child(**payload: Any) -> ToolOutcome:
    return ToolOutcome("ok", child=ChildRequest(path="demo/child", payload=payload))


async def test_a_sub_playbook_parks_the_step(bench: Bench) -> None:
    bench.tool("sub", child(n=1))
    outcome = await bench.run(make.step(make.task("sub")))
    assert outcome.status == "parked"
    assert outcome.child.path == "demo/child"
    assert outcome.child.payload == {"n": 1}


async def test_a_large_payload_goes_by_reference(bench: Bench) -> None:
    bench.tool("sub", child(text="x" * PAYLOAD_BYTES))
    outcome = await bench.run(make.step(make.task("sub")))
    assert (outcome.status, outcome.child.payload) == ("parked", {})
    assert await bench.resolver.load(outcome.child.payload_ref) == {"text": "x" * PAYLOAD_BYTES}
    assert outcome.child.payload_ref["ref"].startswith("noetl://execution/42/")


async def test_a_large_payload_goes_whole_where_the_control_plane_knows_no_references(bench: Bench) -> None:
    bench.wire = 1
    bench.tool("sub", child(text="x" * PAYLOAD_BYTES))
    outcome = await bench.run(make.step(make.task("sub")))
    assert (outcome.status, outcome.child.payload_ref) == ("parked", None)
    assert outcome.child.payload == {"text": "x" * PAYLOAD_BYTES}


async def test_the_childs_end_is_the_tasks_output(bench: Bench) -> None:
    bench.tool("a", make.ok({"x": 1}))
    sub = bench.tool("sub", child())
    c = bench.tool("c", make.ok({"done": True}))
    each = make.step(
        make.task("a", make.rule("continue", set={"ctx.k": 1, "step.s": 2})),
        make.task("sub"),
        make.task("c", config={"x": "{{ a.x }}", "y": "{{ sub.y }}", "p": "{{ _prev }}", "s": "{{ step.s }}"}),
    )
    parked = await bench.run(each)
    assert (parked.status, parked.set) == ("parked", {"k": 1})
    ended = {"status": "ok", "data": {"y": 5}, "execution_id": "77"}
    outcome = await bench.run(each, resume={**parked.resume, "child": ended})
    assert outcome.status == "done"
    assert c.calls[0].config == {"x": 1, "y": 5, "p": {"y": 5}, "s": 2}
    assert outcome.data["results"] == {"a": {"x": 1}, "sub": {"y": 5}, "c": {"done": True}}
    assert len(sub.calls) == 1
    assert outcome.set == {}


async def test_a_childs_failure_meets_the_rules(bench: Bench) -> None:
    bench.tool("sub", child())
    forgiving = make.step(make.task("sub", make.rule("continue", "{{ output.error.code == 'x' }}")))
    strict = make.step(make.task("sub"))
    ended = {"status": "error", "error": {"code": "x", "message": "m"}, "execution_id": "77"}
    parked = await bench.run(forgiving)
    assert (await bench.run(forgiving, resume={**parked.resume, "child": ended})).status == "done"
    outcome = await bench.run(strict, resume={**parked.resume, "child": ended})
    assert (outcome.status, outcome.error["code"], outcome.error["kind"]) == ("error", "x", "playbook")


async def test_a_childs_failure_is_at_the_line_of_the_task_that_started_it(bench: Bench) -> None:
    bench.tool("a", make.ok())
    bench.tool("sub", child())
    each = make.step(make.task("a", line=20), make.task("sub", line=30), make.task("b", line=40))
    ended = {"status": "error", "error": {"code": "x", "message": "m", "at": 3}, "execution_id": "77"}
    parked = await bench.run(each)
    outcome = await bench.run(each, resume={**parked.resume, "child": ended})
    assert (outcome.error["at"], outcome.error["failed_task"]) == (30, "sub"), "3 is a line of the child's playbook"


async def test_a_condition_that_cannot_be_evaluated_fails_at_the_line_of_its_task(bench: Bench) -> None:
    bench.tool("a", make.ok())
    bench.tool("b", make.ok())
    each = make.step(make.task("a", line=20), make.task("b", make.rule("break", "{{ workload.nix }}"), line=30))
    outcome = await bench.run(each)
    assert (outcome.error["code"], outcome.error["at"], outcome.error["failed_task"]) == ("template.error", 30, "b")


async def test_a_condition_over_a_reference_that_is_gone_fails_at_the_line_of_its_task(bench: Bench) -> None:
    ref = (
        await externalise(
            {"rows": [1]}, Place(execution_id="42", step="load", suffix="s"), bench.stores, Output(inline_bytes=0)
        )
    )["ref"]
    await bench.store.delete(ref["key"])
    bench.tool("a", make.ok())
    bench.tool("b", make.ok())
    each = make.step(make.task("a", line=20), make.task("b", make.rule("break", "{{ load.rows }}"), line=30))
    outcome = await bench.run(each, steps={"load": {"status": "ok", "ref": ref}})
    assert (outcome.error["code"], outcome.error["at"], outcome.error["failed_task"]) == (
        "REFERENCE_NOT_AVAILABLE",
        30,
        "b",
    )


async def test_a_childs_result_by_reference_is_passed_on(bench: Bench) -> None:
    ref = (
        await externalise(
            [1, 2], Place(execution_id="77", step="end", suffix="s"), bench.stores, Output(inline_bytes=0)
        )
    )["ref"]
    bench.tool("sub", child())
    each = make.step(make.task("sub", make.rule("continue", "{{ output.data | length == 2 }}")))
    parked = await bench.run(each)
    outcome = await bench.run(each, resume={**parked.resume, "child": {"status": "ok", "ref": ref}})
    assert (outcome.status, outcome.ref, outcome.data) == ("done", ref, None)


async def test_what_a_parked_pipeline_remembers_may_be_big(bench: Bench) -> None:
    bench.tool("a", make.ok({"big": "x" * 100_000}))
    bench.tool("sub", child())
    each = make.step(make.task("a"), make.task("sub"))
    parked = await bench.run(each)
    assert len(parked.model_dump_json()) < 4000
    outcome = await bench.run(each, resume={**parked.resume, "child": {"status": "ok", "data": 1}})
    assert outcome.ref["meta"]["bytes"] > 100_000


# -- the budget


async def test_a_pipeline_out_of_time_is_handed_on_between_tasks(bench: Bench) -> None:
    bench.tool("a", lambda call, context: bench.budget.stop() or make.ok({"n": 1}))
    b = bench.tool("b", make.ok({"m": 2}))
    each = make.step(make.task("a"), make.task("b", config={"n": "{{ a.n }}"}))
    outcome = await bench.run(each)
    assert (outcome.status, outcome.delay) == ("deferred", 0.0)
    assert b.calls == []
    outcome = await bench.run(each, resume=outcome.resume)
    assert outcome.status == "done"
    assert b.calls[0].config == {"n": 1}


@pytest.mark.parametrize("stumble", [RuntimeError("a socket is gone"), ToolFailure("fake", "interrupted", "stopped")])
async def test_a_tool_that_stumbles_over_being_cancelled_has_not_failed(bench: Bench, stumble: Exception) -> None:
    async def clumsy(*given: Any) -> ToolOutcome:
        try:
            await asyncio.Event().wait()
        finally:
            raise stumble

    bench.tool("a", clumsy)
    again = make.rule("retry", ERROR, attempts=3)
    running = asyncio.create_task(bench.run(make.step(make.task("a", again))))
    await asyncio.sleep(0.01)
    running.cancel()
    outcome = await running
    assert (outcome.status, outcome.error) == ("released", None)


async def test_a_cancelled_command_is_released(bench: Bench) -> None:
    bench.tool("a", lambda call, context: asyncio.sleep(60))
    running = asyncio.create_task(bench.run(make.step(make.task("a"))))
    await asyncio.sleep(0.01)
    running.cancel()
    assert (await running).status == "released"
    assert running.cancelling() == 0, "whatever the task does next would be cancelled"


async def test_a_worker_that_is_stopped_releases_a_command_though_it_took_long(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hang(call: Any, context: Any) -> ToolOutcome:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.tool("a", hang)
    running = asyncio.create_task(bench.run(make.step(make.task("a"))))
    await begun.wait()
    bench.budget.stop()
    # it has run for longer than any may
    bench.budget._over = bench.budget._start
    running.cancel()
    outcome = await running
    assert (outcome.status, outcome.error) == ("released", None), "another worker may give it more time"


async def test_a_command_that_had_the_whole_budget_fails(bench: Bench) -> None:
    from noetl_serverless.worker.execution.time_budget import TimeBudget

    bench.budget = TimeBudget(0.01)
    bench.tool("a", lambda call, context: asyncio.sleep(60))
    running = asyncio.create_task(bench.run(make.step(make.task("a"))))
    await asyncio.sleep(0.02)
    running.cancel()
    outcome = await running
    assert (outcome.status, outcome.error["code"]) == ("error", "worker.time_budget")


async def test_what_a_tool_logs_says_which_command_it_was(bench: Bench) -> None:
    lines = []

    def note(call: Any, context: Any) -> ToolOutcome:
        lines.append(orjson.loads(JsonFormatter("worker", "worker").format(logging.makeLogRecord({"msg": "x"}))))
        return make.ok()

    bench.tool("a", note)
    await bench.run(make.step(make.task("a")))
    assert [(line["execution_id"], line["command_id"]) for line in lines] == [("42", "work#1@1")]
