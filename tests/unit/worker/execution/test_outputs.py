"""What becomes of results: collected, bounded, checked, by reference."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.port import ToolFailure

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t}\n"
PAGES = (
    HEAD
    + """
workflow:
  - step: all
    tool:
      - name: page
        kind: http
        url: "http://api/items?page={{ ctx.page | default(1) }}"
        output:
          accumulate: ACCUMULATE
        spec:
          policy:
            rules:
              - {when: "{{ output.error.retryable }}", then: {do: retry, attempts: 3, delay: DELAY}}
              - {when: "{{ page.next }}", then: {do: jump, to: page, set: {ctx.page: "{{ page.next }}"}}}
"""
)
ANSWERS: list[Any] = [
    {"items": [1, 2], "next": 2, "of": {"a": 1}},
    {"items": [3], "next": 3, "of": {"b": 2}},
    {"items": [4], "next": None, "of": {"a": 5}},
]


async def pages(accumulate: str, answers: list[Any] | None = None, delay: str = "0") -> PlaybookRun:
    remaining = list(ANSWERS if answers is None else answers)

    def answer(call: Any) -> Any:
        found = remaining.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return await run_playbook(PAGES.replace("ACCUMULATE", accumulate).replace("DELAY", delay), tools={"http": answer})


@pytest.mark.parametrize(
    ("accumulate", "collected"),
    [
        ("{}", ANSWERS),
        ("{merge_path: $.items}", [[1, 2], [3], [4]]),
        ("{merge_path: $.items, strategy: concat}", [1, 2, 3, 4]),
        ("{merge_path: $.of, strategy: merge}", {"a": 5, "b": 2}),
        ("{merge_path: $.items, strategy: replace}", [4]),
    ],
)
async def test_results_of_all_runs_are_collected(accumulate: str, collected: Any) -> None:
    run = await pages(accumulate)
    assert run.error is None, run.error
    assert run.result["accumulated"] == collected
    assert run.result["results"]["page"] == ANSWERS[-1], "the task's own result stays its last one"


async def test_under_a_name_of_ones_own() -> None:
    run = await pages("{merge_path: $.items, strategy: concat, manifest_as: items}")
    assert run.result["items"] == [1, 2, 3, 4]


async def test_switched_off_nothing_is_collected() -> None:
    assert "accumulated" not in (await pages("{enabled: false}")).result


@pytest.mark.parametrize("delay", ["0", "10m"])
async def test_failed_runs_are_left_out_also_after_a_long_wait(delay: str) -> None:
    away = ToolFailure("http", "http.timeout", "no answer", retryable=True)
    run = await pages("{merge_path: $.items, strategy: concat}", [ANSWERS[0], away, *ANSWERS[1:]], delay)
    assert run.result["accumulated"] == [1, 2, 3, 4]


async def test_failed_runs_are_collected_if_that_is_asked_for() -> None:
    away = ToolFailure("http", "http.timeout", "no answer", retryable=True)
    run = await pages("{on_error: true, on_success: false}", [away, *ANSWERS])
    assert run.result["accumulated"] == [None]


@pytest.mark.parametrize(
    ("accumulate", "code", "message"),
    [
        ("{strategy: concat, merge_path: $.items, max_items: 2}", "value.too_large", "its max_items is 2"),
        ("{strategy: concat}", "request.invalid", "joins lists, and this result is an object: name"),
        ("{strategy: merge, merge_path: $.items}", "request.invalid", "$.items of this result is a list: "),
        ("{merge_path: $.gone}", "request.invalid", "collects $.gone of each result"),
    ],
)
async def test_what_cannot_be_collected_fails_the_task(accumulate: str, code: str, message: str) -> None:
    run = await pages(accumulate)
    assert run.error is not None
    assert (run.error["code"], message in run.error["message"]) == (code, True), run.error


async def test_a_small_result_is_by_reference_if_that_is_asked_for() -> None:
    text = HEAD + "workflow: [{step: a, tool: {kind: http, url: x, output: {inline_max_bytes: 10}}}]"
    run = await run_playbook(text, tools={"http": lambda call: {"text": "more than ten bytes"}})
    assert run.outcomes["a"]["ref"]["meta"]["bytes"] > 10
    run = await run_playbook(text, tools={"http": lambda call: {"a": 1}})
    assert run.outcomes["a"]["data"] == {"a": 1}


async def test_all_results_are_by_reference_if_that_is_asked_for() -> None:
    text = HEAD + (
        "executor: {spec: {policy: {results: {reference_first: true}}}}\n"
        "workflow: [{step: a, tool: {kind: http, url: x}, next: {arcs: [{step: b}]}}, "
        "{step: b, tool: {kind: python, input: {a: '{{ a }}'}, code: 'result = [a]'}}]"
    )
    run = await run_playbook(text, tools={"http": lambda call: {"x": 1}})
    assert run.outcomes["a"]["ref"]["kind"] == "result_ref"
    assert run.result == [{"x": 1}]


async def test_a_result_above_the_limit_of_the_playbook_is_an_error_that_rules_see() -> None:
    text = HEAD + (
        "executor: {spec: {policy: {limits: {max_payload_bytes: 100}}}}\n"
        "workflow: [{step: a, tool: {kind: http, url: x}, "
        "next: {arcs: [{step: b, when: \"{{ output.error.code == 'value.too_large' }}\"}]}}, {step: b}]"
    )
    assert (await run_playbook(text, tools={"http": lambda call: "x" * 98})).outcomes["b"]["status"] == "skipped"
    assert (await run_playbook(text, tools={"http": lambda call: "x" * 99})).outcomes["b"]["status"] == "ok"
    error = (
        await run_playbook(
            text.replace("output.error.code ==", "false and output.error.code =="),
            tools={"http": lambda call: "x" * 99},
        )
    ).error
    assert error is not None and error["message"] == (
        "the result has 101 bytes of JSON; the limit is 100, by executor.spec.policy.limits.max_payload_bytes"
    )


@pytest.mark.parametrize(
    ("contract", "code"),
    [
        ("{expects: [n, of.a], returns: [m]}", None),
        ("{expects: [n, of.b]}", "assert.expects"),
        ("{returns: [m.x]}", "assert.returns"),
    ],
)
async def test_what_a_task_expects_and_returns_is_checked(contract: str, code: str | None) -> None:
    text = HEAD + (
        "workflow: [{step: a, input: {n: 1}, tool: "
        f"{{kind: python, input: {{of: {{a: 2}}}}, code: 'result = {{\"m\": n}}', assert: {contract}}}}}]"
    )
    run = await run_playbook(text)
    assert (run.error or {}).get("code") == code
    if code:
        assert any(name in (run.error or {})["message"] for name in ("of.b", "m.x"))
