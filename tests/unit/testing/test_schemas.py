"""The schemas of a playbook's input and result, as the engine and the worker apply them."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.errors import InvalidInput
from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.port import ToolCall

LARGE = "x" * 100_000


def playbook(schemas: str, *steps: str, path: str = "t/one", workload: str = "{}") -> str:
    head = "apiVersion: noetl.io/v2\nkind: Playbook\n"
    listed = "".join(f"  - {step}\n" for step in steps)
    return f"{head}metadata: {{name: t, path: {path}}}\nworkload: {workload}\nschemas: {schemas}\nworkflow:\n{listed}"


def answering(value: Any) -> Any:
    return {"http": lambda call: value}


ASK = "{step: ask, tool: {kind: http, url: http://x}}"
INPUT = (
    "{input: {properties: {n: {type: integer}, key: {type: integer, writeOnly: true}}, required: [n], "
    "additionalProperties: false}}"
)


async def test_an_input_that_fits_is_merged_with_the_defaults() -> None:
    run = await run_playbook(playbook(INPUT, "{step: one, tool: {kind: noop}}", workload="{n: 1}"), {"key": 2})
    assert run.status == "completed"


async def test_an_input_that_does_not_fit_starts_nothing() -> None:
    calls: list[ToolCall] = []
    with pytest.raises(InvalidInput) as raised:
        await run_playbook(playbook(INPUT, ASK), {"key": "hunter2", "m": 1}, tools={"http": calls.append})
    problem = raised.value.to_dict()
    assert (problem["code"], problem["status"], calls) == ("input.invalid", 422, [])
    found = {fault["pointer"]: (fault["expected"], fault["given"]) for fault in problem["errors"]}
    assert found == {
        "/payload/key": ("an integer", "a string that is not shown"),
        "/payload/n": ("an integer", "nothing"),
        "/payload/m": ("no such property", "a property"),
    }
    assert "hunter2" not in str(problem)


async def called(child: str, given: str, **tools: Any) -> PlaybookRun:
    step = (
        f"{{step: call, tool: {{kind: playbook, path: t/child, input: {given}}}, "
        "next: {arcs: [{step: rescue, when: '{{ event.name == \"call.error\" }}'}]}}"
    )
    parent = playbook("{}", step, "{step: rescue, tool: {kind: noop}}")
    return await run_playbook(parent, playbooks=[child], **tools)


async def test_the_input_of_a_sub_playbook_is_an_error_of_the_step_that_calls_it() -> None:
    child = playbook(INPUT, "{step: one, tool: {kind: noop}}", path="t/child")
    run = await called(child, "{n: many}")
    error = run.outcomes["call"]["error"]
    assert (run.status, error["code"]) == ("completed", "input.invalid")
    assert [fault["pointer"] for fault in error["errors"]] == ["/n"]
    assert error["errors"][0]["given"] == '"many"'


async def test_the_items_of_a_loop_have_the_errors_of_their_sub_playbooks() -> None:
    child = playbook(INPUT, "{step: one, tool: {kind: noop}}", path="t/child")
    loop = (
        "{step: each, loop: {in: [1, x], iterator: it, spec: {mode: parallel}}, "
        "spec: {policy: {failure: {mode: best_effort}}}, "
        "tool: {kind: playbook, path: t/child, input: {n: '{{ iter.it }}'}}}"
    )
    run = await run_playbook(playbook("{}", loop), playbooks=[child])
    assert (run.status, run.result["stats"]["failed"]) == ("completed", 1)


async def test_a_result_that_does_not_fit_fails_the_execution() -> None:
    text = playbook("{result: {type: object, properties: {n: {type: integer}}, required: [n]}}", ASK)
    assert (await run_playbook(text, tools=answering({"n": 1}))).status == "completed"
    run = await run_playbook(text, tools=answering({"n": "1"}))
    assert run.error is not None
    assert (run.status, run.error["code"], run.error["step"]) == ("failed", "result.invalid", "ask")
    assert run.error["errors"] == [
        {
            "pointer": "/n",
            "message": 'this must be an integer, not "1"',
            "expected": "an integer",
            "given": '"1"',
        }
    ]
    assert run.events[-1].type == "playbook.failed"


async def test_no_result_is_null() -> None:
    none = answering(None)
    assert (await run_playbook(playbook("{result: {type: 'null'}}", ASK), tools=none)).status == "completed"
    assert (await run_playbook(playbook("{result: {type: object}}", ASK), tools=none)).status == "failed"


async def test_a_large_result_is_compared_before_it_is_stored() -> None:
    text = playbook("{result: {maxLength: 100000}}", ASK)
    run = await run_playbook(text, tools=answering(LARGE))
    assert (run.status, run.result) == ("completed", LARGE)
    assert "warnings" not in run.events[-1].payload
    run = await run_playbook(text, tools=answering(LARGE + "x"))
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "result.invalid")
    assert "100,001" in run.error["message"]


async def test_the_step_whose_arcs_may_all_not_hold_is_compared_too() -> None:
    ask = "{step: ask, tool: {kind: http, url: http://x}, next: {arcs: [{step: more, when: '{{ false }}'}]}}"
    text = playbook("{result: {maxLength: 5}}", ask, "{step: more, tool: {kind: noop}}")
    run = await run_playbook(text, tools=answering(LARGE))
    assert run.status == "failed"


async def test_the_step_before_the_last_one_is_not_compared() -> None:
    ask = "{step: ask, tool: {kind: http, url: http://x}, next: {arcs: [{step: last}]}}"
    text = playbook("{result: {type: object}}", ask, "{step: last, tool: {kind: noop}}")
    run = await run_playbook(text, tools=answering(LARGE))
    assert run.status == "completed"
    assert "result_check" not in run.outcomes["ask"]["ref"]["meta"]


async def test_what_is_only_in_the_manifest_of_a_loop_is_a_warning() -> None:
    loop = "{step: each, loop: {in: [1, 2], iterator: it}, tool: {kind: http, url: http://x}}"
    text = playbook("{result: {type: object, required: [results]}}", loop)
    run = await run_playbook(text, tools=answering("x"))
    assert (run.status, "warnings" in run.events[-1].payload) == ("completed", False)
    run = await run_playbook(text, tools=answering("x" * 20_000))
    assert run.status == "completed"
    assert [warning["code"] for warning in run.events[-1].payload["warnings"]] == ["result.unchecked"]


async def test_a_large_result_of_a_sub_playbook_has_the_verdict_of_its_own_schema() -> None:
    child = playbook("{result: {type: string}}", ASK, path="t/child")
    step = "{step: call, tool: {kind: playbook, path: t/child}}"
    same = await run_playbook(playbook("{result: {type: string}}", step), playbooks=[child], tools=answering(LARGE))
    assert (same.status, "warnings" in same.events[-1].payload) == ("completed", False)
    other = await run_playbook(
        playbook("{result: {type: string, minLength: 1}}", step), playbooks=[child], tools=answering(LARGE)
    )
    assert [warning["code"] for warning in other.events[-1].payload["warnings"]] == ["result.unchecked"]


async def test_a_result_of_a_sub_playbook_that_does_not_fit_fails_the_step_that_calls_it() -> None:
    child = playbook("{result: {type: integer}}", ASK, path="t/child")
    run = await called(child, "{}", tools=answering("x"))
    error = run.outcomes["call"]["error"]
    assert (run.status, error["code"], error["cause"]["code"]) == ("completed", "child.failed", "result.invalid")
