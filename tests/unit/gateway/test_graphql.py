from __future__ import annotations

import logging
from typing import Any

import pytest

from noetl_serverless import __version__
from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryKeyValue

from .conftest import SERVICE_TOKEN, Client, Upstream

EXECUTION = {
    "execution_id": "9007199254740993",
    "catalog_id": "5",
    "path": "etl/load",
    "version": 2,
    "status": "COMPLETED",
    "start_time": "2026-01-01T00:00:00Z",
    "end_time": "2026-01-01T00:00:01Z",
    "duration_seconds": 1.0,
    "duration_human": "1.0s",
    "progress": 100,
    "result": {"data": {"n": 1}},
    "error": None,
    "parent_execution_id": None,
}


def entry(number: int) -> dict[str, Any]:
    return {**EXECUTION, "execution_id": str(number)}


def event(seq: int) -> dict[str, Any]:
    return {
        "execution_id": "7",
        "seq": seq,
        "cause": None,
        "event_type": "call.done",
        "step": "load",
        "generation": 1,
        "command_id": "load/1/1",
        "timestamp": "2026-01-01T00:00:00Z",
        "payload": {"data": {"seq": seq}},
    }


class Ask:
    def __init__(self, call: Client, token: str) -> None:
        self._call = call
        self._token = token

    async def __call__(self, query: str, status: int = 200, **variables: Any) -> Any:
        answer = await self._call("POST", "/graphql", {"query": query, "variables": variables}, token=self._token)
        assert answer.status == status, answer.body
        return answer.json

    async def data(self, query: str, **variables: Any) -> Any:
        body = await self(query, **variables)
        assert "errors" not in body, body
        return body["data"]

    async def error(self, query: str, status: int = 200, **variables: Any) -> Any:
        body = await self(query, status, **variables)
        assert len(body["errors"]) == 1, body
        return body["errors"][0]


@pytest.fixture
def ask(call: Client, editor: str) -> Ask:
    return Ask(call, editor)


@pytest.fixture
def ask_as_viewer(call: Client, viewer: str) -> Ask:
    return Ask(call, viewer)


async def test_health_and_version(ask: Ask) -> None:
    assert await ask.data("{ health version }") == {"health": "ok", "version": __version__}


async def test_an_execution_is_read_with_all_its_fields(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/9007199254740993"] = EXECUTION
    found = await ask.data(
        """query ($id: ID!) { execution(id: $id) {
            id executionId catalogId path version status startTime endTime durationSeconds durationHuman
            progress result error parentExecutionId } }""",
        id="9007199254740993",
    )
    assert found["execution"] == {
        "id": "9007199254740993",
        "executionId": "9007199254740993",
        "catalogId": "5",
        "path": "etl/load",
        "version": 2,
        "status": "COMPLETED",
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-01T00:00:01Z",
        "durationSeconds": 1.0,
        "durationHuman": "1.0s",
        "progress": 100.0,
        "result": {"data": {"n": 1}},
        "error": None,
        "parentExecutionId": None,
    }
    assert upstream.last.headers["authorization"] == f"Bearer {SERVICE_TOKEN}"
    assert upstream.last.headers["x-noetl-user"] == "editor@example.org"


async def test_an_unknown_execution_is_null(ask: Ask) -> None:
    assert await ask.data('{ execution(id: "404") { id } }') == {"execution": None}


@pytest.mark.parametrize("bad", ["", "../7", "x", "1/cancel", "9" * 20])
async def test_an_id_that_is_no_number_never_reaches_the_control_plane(ask: Ask, upstream: Upstream, bad: str) -> None:
    error = await ask.error("query ($id: ID!) { execution(id: $id) { id } }", id=bad)
    assert error["extensions"]["code"] == "request.invalid"
    assert upstream.seen == []


async def test_executions_are_paged_by_cursor(ask: Ask, upstream: Upstream) -> None:
    query = """query ($after: String) { executions(first: 2, after: $after, status: FAILED, path: "etl") {
        edges { cursor node { id } } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    upstream.answers["GET /api/executions"] = [entry(9), entry(8), entry(7)]
    page = (await ask.data(query))["executions"]
    assert upstream.last.query == {"page_size": "3", "status": "FAILED", "path": "etl"}
    assert [edge["node"]["id"] for edge in page["edges"]] == ["9", "8"]
    assert page["nodes"] == [{"id": "9"}, {"id": "8"}]
    info = page["pageInfo"]
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    assert (info["startCursor"], info["endCursor"]) == tuple(edge["cursor"] for edge in page["edges"])

    upstream.answers["GET /api/executions"] = [entry(7)]
    page = (await ask.data(query, after=info["endCursor"]))["executions"]
    assert upstream.last.query["before"] == "8"
    assert page["nodes"] == [{"id": "7"}]
    assert (page["pageInfo"]["hasNextPage"], page["pageInfo"]["hasPreviousPage"]) == (False, True)


async def test_an_empty_page_has_no_cursors(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = []
    page = await ask.data("{ executions { edges { cursor } pageInfo { hasNextPage startCursor endCursor } } }")
    assert page["executions"] == {
        "edges": [],
        "pageInfo": {"hasNextPage": False, "startCursor": None, "endCursor": None},
    }


async def test_events_are_paged_by_seq(ask: Ask, upstream: Upstream) -> None:
    query = """query ($after: String) { events(executionId: "7", first: 2, after: $after) {
        nodes { executionId seq cause eventType step generation commandId timestamp payload }
        pageInfo { hasNextPage endCursor } } }"""
    upstream.answers["GET /api/executions/7/events"] = [event(1), event(2), event(3)]
    page = (await ask.data(query))["events"]
    assert upstream.last.query == {"after": "0", "limit": "3"}
    assert page["nodes"][1] == {
        "executionId": "7",
        "seq": 2,
        "cause": None,
        "eventType": "call.done",
        "step": "load",
        "generation": 1,
        "commandId": "load/1/1",
        "timestamp": "2026-01-01T00:00:00Z",
        "payload": {"data": {"seq": 2}},
    }
    upstream.answers["GET /api/executions/7/events"] = [event(3)]
    page = (await ask.data(query, after=page["pageInfo"]["endCursor"]))["events"]
    assert upstream.last.query == {"after": "2", "limit": "3"}
    assert page["pageInfo"]["hasNextPage"] is False


async def test_an_executions_events_can_be_asked_for_inside_of_it(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/7"] = {**entry(7), "events": []}
    upstream.answers["GET /api/executions/7/events"] = [event(1)]
    found = await ask.data('{ execution(id: "7") { events(first: 5) { nodes { seq } } } }')
    assert found["execution"]["events"]["nodes"] == [{"seq": 1}]


async def test_the_catalog_is_paged(ask: Ask, upstream: Upstream) -> None:
    def playbook(name: str) -> dict[str, Any]:
        return {"catalog_id": "5", "path": name, "version": 3, "kind": "Playbook", "payload": {"n": 1}, "meta": {}}

    query = """query ($after: String) { catalog(first: 1, after: $after, path: "etl", kind: "Playbook") {
        nodes { path version kind payload createdAt } pageInfo { hasNextPage endCursor } } }"""
    upstream.answers["POST /api/catalog/list"] = {"entries": [playbook("etl/a"), playbook("etl/b")]}
    page = (await ask.data(query))["catalog"]
    assert upstream.last.json == {"resource_type": "Playbook", "path": "etl", "limit": 2, "offset": 0}
    assert page["nodes"] == [
        {"path": "etl/a", "version": 3, "kind": "Playbook", "payload": {"n": 1}, "createdAt": None}
    ]
    upstream.answers["POST /api/catalog/list"] = {"entries": [playbook("etl/b")]}
    page = (await ask.data(query, after=page["pageInfo"]["endCursor"]))["catalog"]
    assert upstream.last.json["offset"] == 1
    assert page["pageInfo"]["hasNextPage"] is False


@pytest.mark.parametrize("after", ["x", "", "ZXZlbnQ6Nw", "ZXhlY3V0aW9uOi0x", "ZXhlY3V0aW9uOjEgT1IgMQ", "é", "===="])
async def test_a_cursor_of_something_else_is_refused(ask: Ask, upstream: Upstream, after: str) -> None:
    upstream.answers["GET /api/executions"] = []
    if after == "":
        assert await ask.data('{ executions(after: "") { nodes { id } } }') == {"executions": {"nodes": []}}
        return
    error = await ask.error("query ($a: String) { executions(after: $a) { nodes { id } } }", a=after)
    assert error["extensions"]["code"] == "request.invalid"
    assert upstream.seen == []


@pytest.mark.parametrize("first", [0, -1, 101, 2_000_000_000])
async def test_a_page_has_bounds(ask: Ask, first: int) -> None:
    error = await ask.error("query ($n: Int) { executions(first: $n) { nodes { id } } }", n=first)
    assert error["extensions"]["code"] == "request.invalid"
    assert error["path"] == ["executions"]


EXECUTE = """mutation ($name: String!, $variables: JSON, $version: Int, $key: String) {
    executePlaybook(name: $name, variables: $variables, version: $version, idempotencyKey: $key) {
        id executionId requestId name status textOutput } }"""


async def test_a_playbook_is_executed(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/execute"] = {"execution_id": "77", "status": "started", "commands_generated": 1}
    found = await ask.data(EXECUTE, name="etl/load", variables={"n": 1}, version=2, key="once")
    assert found["executePlaybook"] == {
        "id": "77",
        "executionId": "77",
        "requestId": None,
        "name": "etl/load",
        "status": "started",
        "textOutput": "Started execution 77",
    }
    assert upstream.last.json == {"path": "etl/load", "version": 2, "payload": {"n": 1}}
    assert upstream.last.headers["idempotency-key"] == "once"
    assert upstream.last.headers["x-noetl-user"] == "editor@example.org"


async def test_what_is_not_given_is_not_sent(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/execute"] = {"execution_id": "77", "status": "started", "commands_generated": 1}
    await ask.data('mutation { executePlaybook(name: "a") { id } }')
    assert upstream.last.json == {"path": "a", "payload": {}}
    assert "idempotency-key" not in upstream.last.headers


@pytest.mark.parametrize(("kind", "sent"), [("agent", {"resource_kind": "agent"}), ("playbook", {}), ("null", {})])
async def test_what_is_to_be_an_agent_is_started_as_one(ask: Ask, upstream: Upstream, kind: str, sent: Any) -> None:
    upstream.answers["POST /api/execute"] = {"execution_id": "77", "status": "started", "commands_generated": 1}
    await ask.data(f'mutation {{ executePlaybook(name: "a", resourceKind: {kind}) {{ id }} }}')
    assert upstream.last.json == {"path": "a", "payload": {}, **sent}


async def test_variables_written_in_the_query_arrive_as_json(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/execute"] = {"execution_id": "77", "status": "started"}
    await ask.data(
        """mutation ($n: JSON) { executePlaybook(name: "a", variables:
            {text: "x", number: 1, half: 0.5, yes: true, none: null, list: [1, {deep: $n}]}) { id } }""",
        n={"a": [1]},
    )
    assert upstream.last.json["payload"] == {
        "text": "x",
        "number": 1,
        "half": 0.5,
        "yes": True,
        "none": None,
        "list": [1, {"deep": {"a": [1]}}],
    }


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ('mutation { executePlaybook(name: "a", clientId: "c") { id } }', "not supported yet"),
        ('mutation { rerunExecution(executionId: "7", clientId: "c") { id } }', "not supported yet"),
        ('mutation { executePlaybook(name: "a", variables: [1]) { id } }', "object"),
        ('mutation { executePlaybook(name: "a", variables: {n: 99999999999999999999}) { id } }', "64-bit"),
        ('mutation { executePlaybook(name: "a", idempotencyKey: "é") { id } }', "idempotencyKey"),
        ('mutation { rerunExecution(executionId: "../7") { id } }', "decimal"),
        ('mutation { cancelExecution(executionId: "x") { status } }', "decimal"),
        ('mutation { pauseExecution(executionId: "7/../8") { status } }', "decimal"),
        ('mutation { signalExecution(executionId: "7", signal: "..") { status } }', "signal"),
        ('mutation { restartExecution(executionId: "7", version: 2, latest: true) { executionId } }', "latest"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(ask: Ask, upstream: Upstream, query: str, word: str) -> None:
    error = await ask.error(query)
    assert word in error["message"]
    assert error["extensions"]["status"] == 400
    assert upstream.seen == []


async def test_an_execution_is_run_again(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/executions/7/rerun"] = {"execution_id": "8", "status": "started"}
    found = await ask.data(
        'mutation { rerunExecution(executionId: "7", variables: {n: 2}, idempotencyKey: "k") { executionId status } }'
    )
    assert found["rerunExecution"] == {"executionId": "8", "status": "started"}
    assert upstream.last.json == {"payload": {"n": 2}}
    assert upstream.last.headers["idempotency-key"] == "k"


async def test_an_execution_is_cancelled(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/executions/7/cancel"] = {
        "status": "cancelled",
        "execution_id": "7",
        "cancelled_executions": ["7", "8"],
        "message": "cancelled 2 executions",
    }
    found = await ask.data(
        'mutation { cancelExecution(executionId: "7", reason: "x") { executionId status cancelledExecutions message } }'
    )
    assert found["cancelExecution"]["cancelledExecutions"] == ["7", "8"]
    assert upstream.last.json == {"reason": "x", "cascade": True}
    await ask.data('mutation { cancelExecution(executionId: "7", cascade: false) { status } }')
    assert upstream.last.json == {"cascade": False}


@pytest.mark.parametrize(
    "query",
    [
        'mutation { executePlaybook(name: "a") { id } }',
        'mutation { rerunExecution(executionId: "7") { id } }',
        'mutation { cancelExecution(executionId: "7") { status } }',
        'mutation { pauseExecution(executionId: "7") { status } }',
        'mutation { resumeExecution(executionId: "7") { status } }',
        'mutation { signalExecution(executionId: "7", signal: "go") { status } }',
        'mutation { restartExecution(executionId: "7") { executionId } }',
        'mutation { proxyRequest(input: {method: "POST", endpoint: "/api/execute", body: {}}) { success } }',
    ],
)
async def test_a_viewer_changes_nothing(ask_as_viewer: Ask, upstream: Upstream, query: str) -> None:
    upstream.answers["OPTIONS /api/execute"] = [405, {}]
    error = await ask_as_viewer.error(query)
    assert error["extensions"]["code"] == "auth.forbidden"
    assert error["extensions"]["status"] == 403
    assert [seen.method for seen in upstream.seen if seen.method != "OPTIONS"] == []


async def test_proxy_request_asks_the_control_plane(ask_as_viewer: Ask, upstream: Upstream) -> None:
    query = "mutation ($input: ProxyRequestInput!) { proxyRequest(input: $input) { success data error } }"
    upstream.answers["GET /api/executions"] = [entry(7)]
    request: dict[str, Any] = {"method": "get", "endpoint": "/api/executions?page_size=5"}
    found = await ask_as_viewer.data(query, input=request)
    assert found["proxyRequest"] == {"success": True, "data": [entry(7)], "error": None}
    assert upstream.last.query == {"page_size": "5"}

    request = {"method": "POST", "endpoint": "catalog/resource", "body": {"path": "none"}}
    found = await ask_as_viewer.data(query, input=request)
    assert found["proxyRequest"]["success"] is False
    assert found["proxyRequest"]["error"]


@pytest.mark.parametrize(
    "endpoint",
    ["http://evil.example/", "//evil.example/", "/api/../metrics", "/api/%2e%2e/metrics", "/api/commands/claim"],
)
async def test_proxy_request_does_not_lead_elsewhere(ask: Ask, upstream: Upstream, endpoint: str) -> None:
    query = 'mutation ($e: String!) { proxyRequest(input: {method: "GET", endpoint: $e}) { success } }'
    error = await ask.error(query, e=endpoint)
    assert error["extensions"]["status"] in (400, 403)
    assert upstream.seen == []


async def test_a_problem_of_the_control_plane_stands_in_extensions(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/execute"] = [
        404,
        {"code": "resource.not_found", "title": "Not found", "detail": "no etl/load"},
    ]
    error = await ask.error('mutation { executePlaybook(name: "etl/load") { id } }')
    assert error["message"] == "no etl/load"
    assert error["path"] == ["executePlaybook"]
    assert error["extensions"]["code"] == "resource.not_found"
    assert error["extensions"]["status"] == 404


async def test_a_control_plane_that_is_down_is_a_problem_too(values: MemoryKeyValue, viewer: str) -> None:
    control_plane = ControlPlane("http://127.0.0.1:1", SERVICE_TOKEN)
    call = Client(create_app(Settings(), keyvalue=values, control_plane=control_plane))
    error = await Ask(call, viewer).error("{ executions { nodes { id } } }")
    assert error["extensions"]["code"] == "control_plane.unavailable"


async def test_a_mistake_of_ours_is_logged_and_not_shown(
    ask: Ask, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers["POST /api/execute"] = {"secret-ish": "unexpected shape"}
    with caplog.at_level(logging.ERROR):
        error = await ask.error('mutation { executePlaybook(name: "a") { id } }')
    assert error["extensions"]["code"] == "server.internal"
    assert "execution_id" not in str(error)
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("{", "Syntax Error"),
        ("", "Syntax Error"),
        ("{ nothing }", "Cannot query field"),
        ("{ execution { id } }", "required"),
        ("{ ...a } fragment a on Query { ...a }", "itself"),
    ],
)
async def test_a_query_that_is_not_valid_is_400_and_never_runs(ask: Ask, query: str, word: str) -> None:
    body = await ask(query, 400)
    assert "data" not in body
    assert word in body["errors"][0]["message"]
    assert body["errors"][0]["extensions"]["code"] == "query.invalid"


@pytest.mark.parametrize("body", [{}, {"query": 1}, {"query": "{ health }", "variables": []}, [{"query": "{health}"}]])
async def test_a_body_that_is_no_operation_is_a_problem(call: Client, viewer: str, body: Any) -> None:
    answer = await call("POST", "/graphql", body, token=viewer)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


async def test_a_body_is_bounded(call: Client, viewer: str) -> None:
    answer = await call("POST", "/graphql", {"query": "{ health }", "x": "a" * 5_000_000}, token=viewer)
    assert answer.status == 413


async def test_the_named_operation_runs(call: Client, viewer: str) -> None:
    query = "query A { health } query B { version }"
    answer = await call("POST", "/graphql", {"query": query, "operationName": "B"}, token=viewer)
    assert answer.json == {"data": {"version": __version__}}
    answer = await call("POST", "/graphql", {"query": query}, token=viewer)
    assert "errors" in answer.json


async def test_introspection_is_on_and_every_field_is_reachable(ask: Ask) -> None:
    from graphql import build_client_schema, get_introspection_query, print_schema

    schema = build_client_schema(await ask.data(get_introspection_query()))
    assert "executePlaybook" in print_schema(schema)


async def test_the_media_type_is_the_one_asked_for(call: Client, viewer: str) -> None:
    body = {"query": "{ health }"}
    answer = await call("POST", "/graphql", body, token=viewer)
    assert answer.header("content-type") == "application/json"
    headers = {"accept": "application/graphql-response+json"}
    answer = await call("POST", "/graphql", body, token=viewer, headers=headers)
    assert answer.header("content-type") == "application/graphql-response+json"


async def test_the_page_loads_nothing_from_elsewhere(call: Client) -> None:
    answer = await call("GET", "/graphql")
    assert answer.status == 200
    text = answer.body.decode()
    assert "<textarea" in text
    assert "http://" not in text
    assert "https://" not in text
    policy = answer.header("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
