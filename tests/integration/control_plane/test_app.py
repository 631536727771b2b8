"""What holds for every operation: who may, how much, and what a refusal looks like."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import Client

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.control_plane.tokens import BadKey
from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.settings import Settings
from noetl_serverless.store.database import Database
from noetl_serverless.store.seal import BadKeys
from noetl_serverless.tools import registry


def path_of(operation: Any) -> str:
    return str(operation.path).replace("{generation}", "1").replace("{", "").replace("}", "")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_no_operation_runs_without_a_token_or_for_another_role(user: Client, operation: Any) -> None:
    path = path_of(operation)
    for header in ("", "Basic abc", "Bearer", "Bearer nonsense"):
        answer = await user.call(operation.method, path, headers={"authorization": header})
        assert (answer.status, answer.json["code"]) == (401, "auth.unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    for role in {"gateway", "worker", "reconciler", "operator"} - operation.roles:
        answer = await user.of(role).call(operation.method, path)
        assert (answer.status, answer.json["code"]) == (403, "auth.forbidden")


async def test_only_the_gateway_acts_for_users(user: Client, playbook: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    headers = {"x_noetl_user": "ada@example.org"}
    assert (await user.post("/api/catalog/register", {"content": playbook}, **headers)).status == 200
    [line] = [record for record in caplog.records if record.getMessage() == "audit"]
    assert (line.operation, line.user, line.role) == ("registerPlaybook", "ada@example.org", "gateway")  # type: ignore[attr-defined]
    answer = await user.of("operator").post("/api/catalog/register", {"content": playbook}, **headers)
    assert answer.status == 403


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_too_large_is_refused(user: Client, announced: bool) -> None:
    chunk = b" " * (1 << 20)
    headers = {"content-length": str(11 << 20)} if announced else {}
    answer = await user.call("POST", "/api/catalog/register", [chunk] * 11, headers=headers)
    assert (answer.status, answer.json["code"]) == (413, "request.too_large")


async def test_a_body_nested_too_deeply_is_refused(user: Client) -> None:
    deep = b'{"path": "x", "payload": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}"
    answer = await user.call("POST", "/api/execute", deep)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"x"', b"\xff", b'{"path": "a", "odd": 1}'])
async def test_a_body_of_another_shape_is_refused(user: Client, body: bytes) -> None:
    answer = await user.call("POST", "/api/execute", body)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert answer.json["errors"]


@pytest.mark.parametrize("payload", [b'"\\u0000"', b'{"\\u0000": 1}', b"NaN", b"-Infinity", b"1" * 40, b'"\\ud800"'])
async def test_what_cannot_be_stored_is_the_caller_s_fault(
    user: Client, registered: dict[str, Any], payload: bytes
) -> None:
    answer = await user.call("POST", "/api/execute", b'{"path": "demo/two", "payload": {"x": %s}}' % payload)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert (await user.get("/api/executions")).json == []


async def test_texts_that_only_look_odd_are_stored(user: Client, registered: dict[str, Any]) -> None:
    odd = {"x": "NaN", "y": "\\u0000", "z": [18446744073709551615, -9223372036854775808, "\U0001f642"]}
    started = await user.post("/api/execute", {"path": "demo/two", "payload": odd})
    event = (await user.get(f"/api/executions/{started.json['execution_id']}/events", limit=1)).json[0]
    assert {key: event["payload"]["workload"][key] for key in odd} == odd


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/credentials/\x00", {}),
        ("/api/schedules/\x00", {}),
        ("/api/executions/1/events", {"after": 10**30}),
        ("/api/executions/1", {"since_event_id": 10**12}),
        ("/api/executions", {"before": "9" * 19}),
        ("/api/executions", {"path": "\x00"}),
        ("/api/results/manifest/1/\x00/1", {}),
        ("/api/aggregate/loop/results", {"execution_id": "9" * 19, "step_name": "x"}),
        ("/api/catalog/plans/\x00", {}),
    ],
)
async def test_no_odd_value_in_path_or_query_is_our_failure(user: Client, path: str, query: dict[str, Any]) -> None:
    answer = await user.of("operator").call("GET", path, query=query)
    assert answer.status in (400, 404)


async def test_a_query_of_another_shape_is_refused(user: Client) -> None:
    answer = await user.get("/api/executions", page="zero", odd=1)
    assert answer.status == 400
    assert {fault["pointer"] for fault in answer.json["errors"]} == {"/page", "/odd"}


async def test_what_has_no_route_is_a_problem_too(user: Client) -> None:
    missing = await user.get("/api/nothing")
    assert (missing.status, missing.json["instance"]) == (404, "/api/nothing")
    assert (await user.delete("/api/execute")).status == 405


@pytest.mark.parametrize(("path", "status"), [("/api/execute", 405), ("/api/vars/1/x", 405), ("/api/results/1", 404)])
async def test_a_gateway_learns_whether_there_is_a_path(user: Client, path: str, status: int) -> None:
    assert (await user.call("OPTIONS", path)).status == status


async def test_probes_and_the_document_need_no_token(user: Client, database: Database) -> None:
    stranger = replace(user, token="none")
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/schema/playbook.json"):
        assert (await stranger.get(path)).status == 200
    assert (await stranger.get("/openapi.json")).json["openapi"] == "3.1.0"
    assert (await stranger.get("/schema/playbook.json")).json == registry.playbook_schema()


def results() -> ResultStore:
    return FsspecResultStore("memory://never")


async def test_without_its_keys_it_does_not_start(database: Database) -> None:
    good = Settings(token_key="k" * 32, encryption_keys="k:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    for settings, error in (
        (replace(good, encryption_keys=""), BadKeys),
        (replace(good, token_key=""), BadKey),
    ):
        with pytest.raises(error):
            create_app(settings, database=database, orchestrator=None, results=results)  # type: ignore[arg-type]
    assert isinstance(create_app(good, database=database, orchestrator=None, results=results), Starlette)  # type: ignore[arg-type]
