from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from pg8000.native import identifier
from tests.integration.control_plane.conftest import SETTINGS, Client

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.reader_role import create_reader_role, reader_role, url_as_reader

PATH = "/api/postgres/execute"


@pytest.fixture
def operator(user: Client, postgres_url: str, database: Database) -> Iterator[Client]:
    """Of a control plane with the role that reads the views, beside that of `user`, which has none."""
    create_reader_role(postgres_url, "password")
    app = create_app(
        replace(SETTINGS, reader_database_url=url_as_reader(postgres_url, "password")),
        database=database,
        orchestrator=None,  # type: ignore[arg-type]
        results=lambda: ResultStores(FsspecResultStore("memory://never")),
    )
    yield replace(user.of("operator"), app=app)
    with closing(connect(postgres_url)) as owner:
        name = identifier(reader_role(postgres_url))
        owner.run(f"DROP OWNED BY {name}")
        owner.run(f"DROP ROLE {name}")


async def test_an_operator_reads_what_rest_shows(user: Client, operator: Client, started: str) -> None:
    query = "SELECT execution_id, status FROM noetl.execution"
    answer = await operator.post(PATH, {"query": query, "schema": "noetl"})
    assert answer.json == {
        "status": "ok",
        "columns": ["execution_id", "status"],
        "result": [[started, "RUNNING"]],
        "row_count": 1,
        "truncated": False,
    }
    seen = (await operator.post(PATH, {"query": "SELECT event_type, node_name FROM event ORDER BY event_id"})).json
    events = (await user.get(f"/api/executions/{started}/events")).json
    assert seen["result"] == [[event["event_type"], event["node_name"]] for event in events]
    waiting = (await operator.post(PATH, {"query": "SELECT node_name, status FROM command"})).json
    assert waiting["result"] == [["first", "pending"]]
    [[content]] = (await operator.post(PATH, {"query": "SELECT content FROM catalog"})).json["result"]
    assert content == (await user.post("/api/catalog/resource", {"path": "demo/two"})).json["content"]


async def test_a_query_that_is_refused_is_a_problem(operator: Client) -> None:
    for body in (
        {"query": "SELECT * FROM noetl.credential"},
        {"query": "DROP TABLE noetl.event"},
        {"query": "SELECT 1", "schema": "public"},
        {"query": "x" * 20_001},
        {"query": "SELECT 1", "credential": "pg"},
        {"procedure": "p"},
        {},
    ):
        answer = await operator.post(PATH, body)
        assert (answer.status, answer.json["code"]) == (400, "request.invalid"), body
        assert answer.headers["content-type"] == "application/problem+json"
    assert (
        "the views are execution, event, command, catalog"
        in (await operator.post(PATH, {"query": "SELECT * FROM noetl.keychain"})).json["detail"]
    )


async def test_only_an_operator_may_ask(operator: Client) -> None:
    for role in ("gateway", "worker", "reconciler"):
        answer = await replace(operator.of(role), app=operator.app).post(PATH, {"query": "SELECT 1"})
        assert (answer.status, answer.json["code"]) == (403, "auth.forbidden")


async def test_without_the_role_it_says_what_to_use_instead(user: Client) -> None:
    answer = await user.of("operator").post(PATH, {"query": "SELECT 1", "schema": "noetl"})
    assert (answer.status, answer.json["code"]) == (501, "server.unsupported")
    assert "GET /api/executions" in answer.json["detail"]
