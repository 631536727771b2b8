"""Running playbooks in memory, and the page that shows it to users."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.template_error import TemplateError
from noetl_serverless.testing.playbooks import run_playbook
from noetl_serverless.tools.config import ToolConfig
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome

PAGE = Path(__file__).parents[3] / "playbooks" / "TESTING.md"
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\n"


def playbook(path: str, *steps: str) -> str:
    return f"{HEAD}metadata: {{name: t, path: {path}}}\nworkflow:\n" + "".join(f"  - {step}\n" for step in steps)


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2, "the page has examples of a playbook and of a tool"
    files = [tmp_path / f"test_example_{number}.py" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        *map(str, files),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


async def test_a_sub_playbook_runs_too() -> None:
    parent = playbook("t/parent", "{step: call, tool: {kind: playbook, path: t/child, input: {n: 2}}}")
    child = playbook("t/child", "{step: ask, tool: {kind: http, url: 'http://x/{{ workload.n }}'}}")
    run = await run_playbook(parent, playbooks=[child], tools={"http": lambda call: call.config["url"]})
    assert (run.status, run.result) == ("completed", "http://x/2")


async def test_a_loop_gives_its_results_in_order() -> None:
    loop = "{step: each, loop: {in: [3, 1, 2], iterator: it}, tool: {kind: http, url: 'http://x/{{ iter.it }}'}}"
    run = await run_playbook(playbook("t/loop", loop), tools={"http": lambda call: call.config["url"][-1]})
    assert (run.status, run.result["results"]) == ("completed", ["3", "1", "2"])


async def test_what_waits_for_a_rate_begins_when_its_window_is_over() -> None:
    loop = "{step: each, spec: {rate: {per: 1m, limit: 2}}, loop: {in: [1, 2, 3, 4, 5], iterator: it}, "
    loop += "tool: {kind: http, url: 'http://x'}}"
    run = await run_playbook(playbook("t/loop", loop), tools={"http": lambda call: 1})
    assert (run.status, len(run.calls), round(run.waited, 2)) == ("completed", 5, 120)


async def test_a_large_result_is_read_where_it_is_stored() -> None:
    text = "x" * 200_000
    run = await run_playbook(
        playbook("t/t", "{step: a, tool: {kind: http, url: 'http://x'}}"), tools={"http": lambda call: text}
    )
    assert run.result == text
    assert "ref" in run.outcomes["a"]


async def test_expressions_are_evaluated_at_the_end_also_over_what_is_stored() -> None:
    text = "x" * 200_000
    step = "{step: a, set: {ctx.n: '{{ 1 + 1 }}'}, tool: {kind: http, url: 'http://x'}}"
    expressions = ["ctx.n", "a.data | length", "a.status", "b.status"]
    run = await run_playbook(playbook("t/t", step), tools={"http": lambda call: text}, expressions=expressions)
    assert [run.values[name] for name in expressions[:3]] == [2, 200_000, "ok"]
    assert isinstance(run.values["b.status"], TemplateError)


async def test_all_delays_are_added_up_and_take_no_time() -> None:
    rules = "spec: {policy: {rules: [{when: '{{ error }}', then: {do: retry, attempts: 3, delay: 1800}}]}}"

    def fail(call: ToolCall) -> object:
        raise ToolFailure("http", "http.timeout", "no answer")

    run = await run_playbook(
        playbook("t/t", f"{{step: a, tool: {{kind: http, url: 'http://x', {rules}}}}}"), tools={"http": fail}
    )
    assert (run.status, run.waited, len(run.calls)) == ("failed", 3600, 3)


async def test_a_run_goes_no_further_once_it_is_stopped() -> None:
    calls: list[ToolCall] = []
    arcs = "next: {arcs: [{step: b}]}"
    run = await run_playbook(
        playbook("t/t", f"{{step: a, tool: {{kind: http, url: 'http://x'}}, {arcs}}}", "{step: b, tool: {kind: noop}}"),
        tools={"http": calls.append},
        stop=lambda: bool(calls),
    )
    assert (run.status, len(calls)) == ("running", 1) and "b" not in run.outcomes


async def test_a_playbook_that_is_invalid_is_refused() -> None:
    with pytest.raises(InvalidPlaybook):
        await run_playbook(playbook("t/t", "{step: a, tool: {kind: nonsense}}"))


class CredentialTool:
    """Gives the lengths of what is in the credential that its URL names."""

    config: ClassVar[type[BaseModel]] = ToolConfig

    def __init__(self) -> None:
        self.closed = 0

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        fields = (await context.credential(call.config["url"])).data
        return ToolOutcome("ok", data={name: len(value) for name, value in fields.items()})

    async def close(self) -> None:
        self.closed += 1


async def test_a_tool_may_be_replaced_by_another_which_is_given_credentials_and_closed() -> None:
    tool = CredentialTool()
    run = await run_playbook(
        playbook("t/t", "{step: a, tool: {kind: http, url: shop}}"),
        tools={"http": tool},
        credentials={"shop": {"token": "abc"}, "other": {}},
    )
    assert (run.status, run.result, list(run.calls)) == ("completed", {"token": 3}, [])
    assert tool.closed == 1, "what a tool keeps between its calls was not released"


def retried(url: str, delay: int) -> str:
    rules = f"[{{when: '{{{{ output.error.retryable }}}}', then: {{do: retry, attempts: 2, delay: {delay}}}}}]"
    return f"{{kind: http, url: '{url}', spec: {{policy: {{rules: {rules}}}}}}}"


async def test_retries_come_in_the_order_in_which_they_are_due_and_the_clock_moves_to_them() -> None:
    text = playbook(
        "t/t",
        "{step: begin, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}]}}",
        f"{{step: a, tool: {retried('http://late', 7200)}}}",
        f"{{step: b, tool: {retried('http://early', 3600)}}}",
    )
    asked: Counter[str] = Counter()

    def answer(call: ToolCall) -> object:
        asked[call.config["url"]] += 1
        if asked[call.config["url"]] == 1:
            raise ToolFailure("http", "http.timeout", "no answer", retryable=True)
        return call.config["url"]

    run = await run_playbook(text, tools={"http": answer})
    assert run.status == "completed"
    assert [call.config["url"] for call in run.calls[2:]] == ["http://early", "http://late"]
    assert run.events[-1].at - run.events[0].at == 7_200_000, "the delays are counted from the failures"


async def test_a_run_shows_the_error_and_the_outcome_of_each_step() -> None:
    def fail(call: ToolCall) -> object:
        raise ToolFailure("http", "http.status", "refused")

    text = playbook(
        "t/t",
        "{step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}",
        "{step: b, tool: {kind: http, url: 'http://{{ workload.host }}'}}",
    )
    run = await run_playbook(text.replace("workflow:", "workload: {host: x}\nworkflow:"), tools={"http": fail})
    assert run.status == "failed" and run.error is not None
    assert run.error["code"] == "http.status"
    assert {step: outcome["status"] for step, outcome in run.outcomes.items()} == {"a": "ok", "b": "error"}
    assert [call.config["url"] for call in run.calls] == ["http://x"], "the playbook's own workload"
    assert [event.seq for event in run.events] == list(range(1, len(run.events) + 1))


async def test_secrets_of_a_keychain_are_their_names() -> None:
    step = '{step: ask, tool: {kind: http, url: "{{ keychain.a.token }}", headers: {x: "{{ keychain.b.any }}"}}}'
    text = playbook("t/secret", step).replace(
        "workflow:",
        "keychain:\n  - {name: a, kind: bearer, token: abc}\n  - {name: b, kind: oauth2, endpoint: 'http://x'}\nworkflow:",
    )
    run = await run_playbook(text, tools={"http": lambda call: call.config})
    assert run.result == {"url": "keychain.a.token", "headers": {"x": "keychain.b.any"}}


async def test_variables_are_set_once_it_has_begun() -> None:
    text = PLAYBOOK_OF_VARIABLES
    run = await run_playbook(text, variables={"limit": 5}, expressions=["vars.limit", "vars.twice"])
    assert (run.status, run.result, run.values) == ("completed", 10, {"vars.limit": 5, "vars.twice": 10})


PLAYBOOK_OF_VARIABLES = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: v, path: t/v}
workflow:
  - {step: a, tool: {kind: noop}, set: {vars.twice: "{{ vars.limit * 2 }}"}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: python, input: {n: "{{ vars.twice }}"}, code: "result = n"}}
"""
