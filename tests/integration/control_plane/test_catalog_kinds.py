"""The catalog over HTTP: documents of every kind, calls of tools, versions, delete and restore."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client

HEAD = "apiVersion: noetl.io/v2\nkind: {kind}\nmetadata: {{name: x, path: {path}{more}}}\n"


def tool(n: int = 1) -> str:
    schema = "input: {type: object, properties: {n: {type: integer}}, required: [n]}\n"
    head = HEAD.format(kind="Tool", path="tools/add", more="")
    return f"{head}{schema}tool: {{kind: noop, result: '{{{{ n + {n} }}}}'}}\n"


def caller(call: str = "", path: str = "demo/caller") -> str:
    return f"""{HEAD.format(kind="Playbook", path=path, more="")}workflow:
  - {{step: one, tool: {{kind: tool, path: tools/add{call}, input: {{n: 1}}}}}}
"""


def agent(path: str, capabilities: str) -> str:
    more = f", capabilities: [{capabilities}]"
    return f"{HEAD.format(kind='Agent', path=path, more=more)}workflow: [{{step: one}}]\n"


MCP = HEAD.format(kind="Mcp", path="mcp/k8s", more="") + "spec: {url: 'http://mcp.example/mcp', tools: [pods]}\n"
CREDENTIAL = HEAD.format(kind="Credential", path="warehouse", more="") + "type: postgres\nkinds: [postgres]\n"


async def register(user: Client, text: str, **fields: Any) -> dict[str, Any]:
    answer = await user.post("/api/catalog/register", {"content": text, **fields})
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def paths(user: Client, route: str = "/api/catalog/list", **body: Any) -> list[str]:
    return [entry["path"] for entry in (await user.post(route, body)).json["entries"]]


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [(tool(), "Tool", "tools/add"), (MCP, "Mcp", "mcp/k8s"), (CREDENTIAL, "Credential", "warehouse")],
)
async def test_each_kind_is_registered_listed_and_read(user: Client, text: str, kind: str, path: str) -> None:
    done = await register(user, base64.b64encode(text.encode()).decode(), resource_type=kind.lower())
    assert (done["kind"], done["path"], done["version"]) == (kind, path, 1)
    assert await paths(user, resource_type=kind) == [path]
    entry = (await user.post("/api/catalog/resource", {"path": path})).json
    assert (entry["kind"], entry["content"]) == (kind, text)
    assert (await user.post("/api/execute", {"path": path})).status == 404, "it is no playbook"
    scheduled = {"name": "s", "playbook_path": path, "interval_seconds": 60}
    assert (await user.post("/api/schedules", scheduled)).status == 404


async def test_the_wrong_kind_is_refused(user: Client) -> None:
    answer = await user.post("/api/catalog/register", {"content": tool(), "resource_type": "mcp"})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/kind")
    assert (await user.post("/api/catalog/register", {"content": tool(), "resource_type": "thing"})).status == 400
    await register(user, tool(), resource_type="Playbook")
    taken = caller().replace("demo/caller", "tools/add")
    assert (await user.post("/api/catalog/register", {"content": taken})).status == 409


async def test_agents_are_found_by_what_they_can_do(user: Client) -> None:
    await register(user, agent("agents/a", "search, summarize"))
    await register(user, agent("agents/b", "search"))
    await register(
        user, agent("agents/c", "").replace("kind: Agent", "kind: Playbook").replace("[]", "[], agent: true")
    )
    await register(user, agent("agents/d", "search").replace("kind: Agent", "kind: Playbook"))
    everything = ["agents/a", "agents/b", "agents/c"]
    assert await paths(user, "/api/catalog/agents/list") == everything
    assert await paths(user, agent_only=True) == everything
    assert await paths(user, "/api/catalog/agents/list", capability="search") == ["agents/a", "agents/b"]
    assert await paths(user, agent_only=True, capabilities=["search"], capability="summarize") == ["agents/a"]
    assert await paths(user, capability="search") == ["agents/a", "agents/b", "agents/d"]
    started = await user.post("/api/execute", {"path": "agents/a", "resource_kind": "agent"})
    assert started.json["status"] == "started"


async def test_only_an_agent_is_started_as_one(user: Client) -> None:
    await register(user, agent("agents/a", ""))
    await register(
        user, agent("agents/c", "").replace("kind: Agent", "kind: Playbook").replace("[]", "[], agent: true")
    )
    plain = await register(user, agent("demo/p", "").replace("kind: Agent", "kind: Playbook"))
    for path in ("agents/a", "agents/c"):
        for kind in ("agent", "Agent", "playbook"):
            answer = await user.post("/api/execute", {"path": path, "resource_kind": kind})
            assert (answer.status, answer.json["status"]) == (200, "started")
    first = (await user.post("/api/execute", {"path": "demo/p", "resource_kind": "Playbook"})).json["execution_id"]
    for route, body in (
        ("/api/execute", {"path": "demo/p"}),
        ("/api/execute", {"catalog_id": plain["catalog_id"]}),
        (f"/api/executions/{first}/rerun", {}),
    ):
        refused = await user.post(route, {**body, "resource_kind": "agent"})
        assert (refused.status, refused.json["detail"].partition(":")[0]) == (400, "demo/p version 1 is no agent")
    unknown = await user.post("/api/execute", {"path": "demo/p", "resource_kind": "tool"})
    assert "resource_kind: this must be one of playbook, agent" in unknown.json["detail"]
    batch = [{"path": "demo/p", "resource_kind": "agent"}, {"path": "agents/a", "resource_kind": "agent"}]
    started = (await user.post("/api/execute/batch", batch)).json
    assert [entry["status"] for entry in started] == ["failed", "started"]


async def test_described_credentials_are_listed_before_stored_ones(user: Client) -> None:
    await register(user, CREDENTIAL)
    await register(user, CREDENTIAL.replace("warehouse", "lake"))
    for name in ("a", "b"):
        await user.post("/api/credentials", {"name": name, "type": "generic", "data": {"password": "hidden"}})
    found, offset = [], 0
    while offset is not None:
        page = (
            await user.post("/api/catalog/list", {"resource_type": "Credential", "limit": 1, "offset": offset})
        ).json
        found += [entry["path"] for entry in page["entries"]]
        offset = page["next"]
    assert found[:2] == ["lake", "warehouse"]
    assert sorted(found[2:]) == ["a", "b"]


async def test_a_call_is_resolved_from_the_catalog_whatever_the_text_says(user: Client) -> None:
    await register(user, tool())
    await register(user, caller())
    text = (await user.post("/api/catalog/resource", {"path": "demo/caller"})).json["content"]
    assert "catalog:tools/add@1" in text
    again = await register(user, text)
    assert (again["version"], again["message"]) == (1, "demo/caller version 1 unchanged: already registered")
    await register(user, tool(2))
    assert (await register(user, text))["version"] == 2, "the newest version counts when it is registered"
    newest = (await user.post("/api/catalog/resource", {"path": "demo/caller"})).json["content"]
    assert "catalog:tools/add@2" in newest
    assert "catalog:tools/add@1" not in newest


async def test_a_call_that_cannot_be_resolved_is_refused_with_its_place(user: Client) -> None:
    await register(user, agent("agents/a", ""))
    for text, says in (
        (caller(), "the catalog has no tools/add; register the tool before what calls it"),
        (caller(", version: 3"), "the catalog has no tools/add version 3"),
        (caller().replace("tools/add", "agents/a"), "agents/a is of kind Agent, not a tool"),
    ):
        answer = await user.post("/api/catalog/register", {"content": text})
        [fault] = answer.json["errors"]
        assert (answer.status, fault["code"], fault["pointer"]) == (
            422,
            "playbook.tool_missing",
            "/workflow/0/tool/path",
        )
        assert (fault["line"], says in fault["message"]) == (5, True)


async def test_a_described_credential_is_used_by_its_kinds_of_tools_alone(user: Client) -> None:
    await register(user, CREDENTIAL)
    head = HEAD.format(kind="Playbook", path="demo/auth", more="")
    of = "workflow: [{step: one, tool: {kind: %s, auth: warehouse, %s}}]\n"
    refused = await user.post("/api/catalog/register", {"content": head + of % ("http", "url: 'http://a.example'")})
    assert "may be used by postgres alone" in refused.json["detail"]
    await register(user, head + of % ("postgres", "command: SELECT 1"))
    needed = tool().replace("kind: noop, result: '{{ n + 1 }}'", "kind: http, url: 'http://a/{{ n }}', auth: db")
    needed += "credentials: {db: {type: bearer, default: warehouse}}\n"
    assert (
        "may be used by postgres alone"
        in (await user.post("/api/catalog/register", {"content": needed})).json["detail"]
    )


async def test_a_described_credential_is_not_given_to_another_kind_of_tool_by_another_name(user: Client) -> None:
    # described only afterwards
    later = tool().replace("kind: noop, result: '{{ n + 1 }}'", "kind: http, url: 'http://a/{{ n }}', auth: db")
    later = later.replace("tools/add", "tools/before")
    await register(user, later + "credentials: {db: {type: bearer, default: warehouse}}\n")
    await register(user, CREDENTIAL)
    needs = "credentials: {db: {type: bearer}}\n"
    send = tool().replace("kind: noop, result: '{{ n + 1 }}'", "kind: http, url: 'http://a/{{ n }}', auth: db") + needs
    await register(user, send)
    head = HEAD.format(kind="Playbook", path="demo/auth", more="")
    call = "workflow: [{step: one, tool: {kind: tool, path: tools/add, input: {n: 1}, credentials: {db: %s}}}]\n"
    answer = await user.post("/api/catalog/register", {"content": head + call % "warehouse"})
    assert answer.status == 422, answer.body
    [fault] = answer.json["errors"]
    assert (answer.status, fault["pointer"]) == (422, "/workflow/0/tool/credentials/db")
    assert "may be used by postgres alone" in fault["message"]
    bare = "workflow: [{step: one, tool: {kind: tool, path: tools/before, input: {n: 1}}}]\n"
    answer = await user.post("/api/catalog/register", {"content": head + bare})
    assert answer.status == 422, answer.body
    [fault] = answer.json["errors"]
    assert fault["pointer"] == "/workflow/0/tool/path"
    assert "may be used by postgres alone" in fault["message"]
    for entry in ("kind: credential, credential: warehouse", "kind: credential_ref, ref: warehouse"):
        keychain = f"keychain: [{{name: k, {entry}}}]\n"
        http = "workflow: [{step: one, tool: {kind: http, url: 'http://a', auth: k}}]\n"
        for steps in (http, call % "k"):
            answer = await user.post("/api/catalog/register", {"content": head + keychain + steps})
            assert (answer.status, "may be used by postgres alone" in answer.json["detail"]) == (422, True), steps
    await register(user, head + "workload: {c: other}\n" + call % "'{{ workload.c }}'")


async def test_of_a_tool_that_was_deleted_it_is_said_how_it_is_restored(user: Client) -> None:
    await register(user, tool())
    await user.post("/api/catalog/delete", {"path": "tools/add"})
    answer = await user.post("/api/catalog/register", {"content": caller()})
    assert (answer.status, "run: noetls catalog restore tools/add" in answer.json["detail"]) == (422, True)
    await user.post("/api/catalog/restore", {"path": "tools/add"})
    await register(user, caller())


async def test_what_is_refused_is_called_by_its_kind(user: Client) -> None:
    for content, title in (
        (tool().replace("tool:", "tol:"), "The document of kind Tool is not valid"),
        (CREDENTIAL.replace("type:", "typ:"), "The document of kind Credential is not valid"),
        (caller().replace("workflow:", "workflo:"), "The playbook is not valid"),
    ):
        answer = await user.post("/api/catalog/register", {"content": content})
        assert (answer.status, answer.json["title"]) == (422, title)


async def test_of_a_version_that_never_was_it_is_said_which_there_are(user: Client) -> None:
    for n in range(1, 6):
        await register(user, tool(n))
    await user.post("/api/catalog/delete", {"path": "tools/add", "version": 4})
    for version, says in (
        (9, "the catalog has no tools/add version 9; it has versions 1 to 3, 5"),
        (4, "tools/add version 4: it was deleted; to restore it, run: noetls catalog restore tools/add --version 4"),
    ):
        answer = await user.post("/api/catalog/register", {"content": caller(f", version: {version}")})
        [fault] = answer.json["errors"]
        assert (answer.status, says in fault["message"]) == (422, True), fault
    await user.post("/api/catalog/delete", {"path": "tools/add"})
    answer = await user.post("/api/catalog/register", {"content": caller(", version: 9")})
    assert "version 9; register the tool before what calls it" in answer.json["detail"]


async def test_what_undoes_a_step_calls_tools_of_the_catalog_too(user: Client) -> None:
    await register(user, CREDENTIAL)
    await register(user, tool())
    head = HEAD.format(kind="Playbook", path="demo/undo", more="")
    undo = "workflow: [{step: one, compensate: {tool: {%s}}}]\n"
    await register(user, head + undo % "kind: tool, path: tools/add, input: {n: 1}")
    content = head + undo % "kind: http, url: 'http://a', auth: warehouse"
    assert (
        "may be used by postgres alone"
        in (await user.post("/api/catalog/register", {"content": content})).json["detail"]
    )


async def test_what_is_deleted_starts_nothing_new_and_what_runs_goes_on(user: Client, worker: Client) -> None:
    await register(user, tool())
    await register(user, caller())
    started = await user.post("/api/execute", {"path": "demo/caller"})
    hash = (await user.post("/api/catalog/resource", {"path": "demo/caller"})).json["hash"]
    deleted = await user.post("/api/catalog/delete", {"path": "demo/caller"})
    assert deleted.json == {
        "status": "success",
        "message": "demo/caller version 1 deleted",
        "path": "demo/caller",
        "versions": [1],
    }
    await user.post("/api/catalog/delete", {"path": "tools/add", "version": 1})
    assert await paths(user) == []
    assert await paths(user, include_deleted=True) == ["demo/caller", "tools/add"]
    assert (await user.post("/api/execute", {"path": "demo/caller"})).status == 404
    id = started.json["execution_id"]
    assert (await user.post(f"/api/executions/{id}/cancel", {})).status == 200
    assert (await worker.get(f"/api/catalog/plans/{hash}")).status == 200
    assert (await user.post("/api/catalog/restore", {"path": "demo/caller"})).json["versions"] == [1]
    assert (await user.post("/api/execute", {"path": "demo/caller"})).status == 200, "though its tool is deleted"
    assert (await user.post("/api/catalog/restore", {"path": "nowhere"})).status == 404


async def test_versions_are_listed_and_compared(user: Client) -> None:
    for n in (1, 2, 3):
        await register(user, tool(n))
    first = (await user.post("/api/catalog/versions", {"path": "tools/add", "limit": 2})).json
    assert ([entry["version"] for entry in first["entries"]], first["next"]) == ([3, 2], 2)
    rest = (await user.post("/api/catalog/versions", {"path": "tools/add", "before": 2})).json
    assert ([entry["version"] for entry in rest["entries"]], rest["next"]) == ([1], None)
    assert (await user.post("/api/catalog/versions", {"path": "nowhere"})).status == 404
    found = (await user.post("/api/catalog/diff", {"path": "tools/add", "base": 1, "version": 2})).json
    assert "\n-tool: {kind: noop, result: '{{ n + 1 }}'}\n+tool: {kind: noop, result: '{{ n + 2 }}'}\n" in found["text"]
    assert found["steps"] is None
    await register(user, caller(", version: 1"))
    await register(user, caller(", version: 2"))
    found = (await user.post("/api/catalog/diff", {"path": "demo/caller", "base": 1})).json
    assert "+++ catalog:tools/add@2" in found["text"]
    [step] = found["steps"]
    assert (step["step"], step["change"]) == ("one", "changed")
    parts = {part["where"]: (part["before"], part["after"]) for part in step["parts"]}
    assert parts["tool.catalog"] == ("tools/add version 1", "tools/add version 2")
    assert parts["tool.result"] == ("{{ n + 1 }}", "{{ n + 2 }}")


async def test_many_registrations_of_a_path_at_once_all_get_a_version(user: Client) -> None:
    answers = await asyncio.gather(*(register(user, tool(n)) for n in range(10)))
    assert sorted(answer["version"] for answer in answers) == list(range(1, 11))
    same = await asyncio.gather(*(register(user, tool(99)) for _ in range(5)))
    assert {answer["version"] for answer in same} == {11}
