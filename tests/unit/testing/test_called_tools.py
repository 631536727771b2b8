"""Calls of tools of the catalog, run by the engine and the worker themselves."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.errors import InvalidPlaybook, NotFound
from noetl_serverless.inspection.explain import explain
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.scripts import split
from noetl_serverless.testing.catalog import MemoryCatalog
from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.port import ToolCall, ToolFailure

GEOCODE = """apiVersion: noetl.io/v2
kind: Tool
metadata: {name: geocode, path: tools/geocode}
input:
  type: object
  properties:
    address: {type: string, minLength: 3}
    limit: {type: integer, default: 1}
    language: {type: string}
  required: [address]
output: {type: object, properties: {hits: {type: array, maxItems: 2}}, required: [hits]}
credentials: {maps: {type: api_key}}
tool:
  kind: http
  url: "https://maps.example/{{ address }}"
  params: {n: "{{ limit }}", lang: "{{ language }}"}
  auth: {credential: maps, type: api_key}
  spec: {timeout: 5, policy: {rules: [{when: "{{ error.code == 'http.status' }}", then: {do: retry, attempts: 3}}]}}
"""


def calling(call: str, step: str = "", workload: str = "{}") -> str:
    return f"""apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: p, path: t/p}}
workload: {workload}
workflow:
  - {{step: one{step}, tool: {{kind: tool, path: tools/geocode{call}}}}}
"""


async def ran(text: str, answer: Any) -> PlaybookRun:
    """The tool answers with what is given, each time; a failure is raised."""

    def answered(call: ToolCall) -> Any:
        if isinstance(answer, ToolFailure):
            raise answer
        return answer

    return await run_playbook(text, tools={"http": answered}, playbooks=[GEOCODE], credentials={"maps": {"key": "k"}})


async def test_it_is_an_ordinary_call_of_the_tool_that_the_definition_names() -> None:
    text = calling(', input: {address: "{{ workload.a }}"}', workload="{a: Bern}")
    run = await ran(text, {"hits": [1]})
    assert (run.status, run.result) == ("completed", {"hits": [1]})
    [call] = run.calls
    assert (call.kind, call.timeout) == ("http", 5.0)
    assert call.config == {
        "url": "https://maps.example/Bern",
        "params": {"n": 1, "lang": None},
        "auth": {"credential": "maps", "type": "api_key"},
    }


async def test_the_tool_reads_its_input_alone_whatever_the_playbook_has_under_those_names() -> None:
    text = calling(
        ", input: {limit: 2}", step=", input: {address: Bern, other: 1}", workload="{language: de, address: Basel}"
    )
    run = await ran(text, {"hits": []})
    assert run.calls[0].config["params"] == {"n": 2, "lang": None}
    assert run.calls[0].input == {"address": "Bern", "limit": 2, "language": None}


async def test_the_retries_of_the_definition_count_unless_the_call_has_rules() -> None:
    failed = ToolFailure("http", "http.status", "500", retryable=True)
    assert len((await ran(calling(", input: {address: Bern}"), failed)).calls) == 3
    rules = ', spec: {policy: {rules: [{when: "{{ error }}", then: {do: fail}}]}}'
    assert len((await ran(calling(f", input: {{address: Bern}}{rules}"), failed)).calls) == 1


@pytest.mark.parametrize(
    ("address", "pointer", "expected", "given"),
    [
        ("B", "/address", "a string whose number of characters is at least 3", "1"),
        (None, "/address", "a string", "null"),
    ],
)
async def test_an_input_that_the_schema_does_not_allow_reaches_no_tool(
    address: Any, pointer: str, expected: Any, given: Any
) -> None:
    text = calling(
        ', input: {address: "{{ workload.a }}"}', workload=f"{{a: {'null' if address is None else address}}}"
    )
    run = await ran(text, {"hits": []})
    assert (run.status, list(run.calls)) == ("failed", [])
    assert run.error is not None
    assert (run.error["code"], run.error["at"], run.error["retryable"]) == ("tool.input_invalid", 6, False)
    assert (run.error["pointer"], run.error["expected"], run.error["given"]) == (pointer, expected, given)


async def test_a_result_that_the_schema_does_not_allow_fails_the_call_and_stays_readable() -> None:
    run = await ran(calling(", input: {address: Bern}"), {"hits": [1, 2, 3]})
    assert run.error is not None
    assert (run.error["code"], run.error["pointer"]) == ("tool.output_invalid", "/hits")
    assert run.outcomes["one"]["data"] == {"hits": [1, 2, 3]}


async def test_what_an_error_shows_of_a_value_is_short() -> None:
    run = await ran(calling(", input: {address: Bern}"), {"hits": ["x" * 1000] * 3})
    assert run.error is not None
    assert len(str(run.error["given"])) < 400


async def test_the_caller_binds_the_credential_by_name_or_by_template() -> None:
    for bound, workload in (("stored", "{}"), ('"{{ workload.key }}"', "{key: stored}")):
        text = calling(f", input: {{address: Bern}}, credentials: {{maps: {bound}}}", workload=workload)
        assert (await ran(text, {"hits": []})).calls[0].config["auth"] == {"credential": "stored", "type": "api_key"}


async def test_a_later_version_of_the_tool_changes_nothing_in_a_registered_playbook() -> None:
    catalog = MemoryCatalog()
    catalog.register(GEOCODE)
    first = catalog.register(calling(", input: {address: Bern}"))
    catalog.register(GEOCODE.replace("maps.example", "other.example"))
    pinned = catalog.register(calling(", version: 1, input: {address: Bern}"), path="t/pinned")
    second = catalog.register(calling(", input: {address: Bern}"))
    sources = [load_plan(one.content).steps["one"].tasks[0].config["url"].source for one in (first, pinned, second)]  # type: ignore[index,call-overload,union-attr]
    assert [source.split("/")[2] for source in sources] == ["maps.example", "maps.example", "other.example"]
    assert len({first.hash, second.hash}) == 2, "what runs differs, and so does the hash of the plan"
    assert sorted(split(second.content)[1]) == ["catalog:tools/geocode", "catalog:tools/geocode@2"]
    await catalog.delete("tools/geocode")
    assert load_plan(await catalog.text(first.hash)).hash == first.hash
    with pytest.raises(NotFound):
        catalog.register(calling(", input: {address: Bern}"))


def test_a_definition_that_was_changed_in_a_registered_text_is_refused() -> None:
    catalog = MemoryCatalog()
    catalog.register(GEOCODE)
    text = catalog.register(calling(", input: {address: Bern}")).content
    with pytest.raises(InvalidPlaybook, match="is not the one that its sha256 is of"):
        load_plan(text.replace("maps.example", "evil.example"))


async def test_explain_says_where_a_call_came_from() -> None:
    run = await ran(calling(", input: {address: Bern}"), {"hits": []})
    catalog = MemoryCatalog()
    catalog.register(GEOCODE)
    plan = load_plan(catalog.register(calling(", input: {address: Bern}")).content)
    [step] = explain("7", run.events, plan)["steps"]
    assert step["called"] == [{"task": "one", "path": "tools/geocode", "version": 1}]
