"""A start that waits for the end of the execution."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from noetl_serverless.control_plane.watchers import Watchers
from noetl_serverless.store.database import Database

from .conftest import Client, FakeWorker


@asynccontextmanager
async def starting(user: Client, query: str, **headers: str) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(user.post(f"/api/execute{query}", {"path": "demo/two"}, **headers))
    try:
        yield task
    finally:
        await asyncio.wait_for(task, 30)


async def work(hands: FakeWorker, **outcome: Any) -> None:
    """Run the two steps of the playbook, or the first one if it fails."""
    async with asyncio.timeout(10):
        while not (claimed := await hands.claim()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    while claimed:
        claimed = (await hands.report(claimed[0], **{"data": {"n": 2}, **outcome}))["commands"]


@pytest.mark.usefixtures("registered")
async def test_it_is_answered_with_the_result(user: Client, hands: FakeWorker) -> None:
    async with starting(user, "?wait=30") as task:
        await work(hands)
        answer = await asyncio.wait_for(task, 10)
    assert answer.status == 200
    assert (answer.json["status"], answer.json["result"], answer.json["error"]) == (
        "COMPLETED",
        {"data": {"n": 2}},
        None,
    )
    assert answer.json["commands_generated"] == 1


@pytest.mark.usefixtures("registered")
async def test_it_is_answered_with_the_error(user: Client, hands: FakeWorker) -> None:
    async with starting(user, "?wait=30") as task:
        error = {"kind": "python", "code": "python.error", "message": "no", "retryable": False}
        await work(hands, status="error", data=None, error=error)
        answer = await asyncio.wait_for(task, 10)
    assert (answer.json["status"], answer.json["result"]) == ("FAILED", None)
    assert answer.json["error"]["code"] == "python.error"


@pytest.mark.usefixtures("registered", "database")
@pytest.mark.parametrize("query", ["", "?wait=0", "?wait=0.3"])
async def test_one_that_has_not_ended_in_time_is_only_started(user: Client, query: str) -> None:
    async with starting(user, query) as task:
        answer = await asyncio.wait_for(task, 10)
    assert (answer.status, answer.json["status"], answer.json["result"]) == (200, "started", None)
    assert (await user.get(f"/api/executions/{answer.json['execution_id']}")).json["status"] == "RUNNING"


@pytest.mark.usefixtures("registered")
async def test_an_end_that_another_process_commits_is_found(
    user: Client, hands: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchers, "notify", lambda self, execution: None)
    async with starting(user, "?wait=30") as task:
        await work(hands)
        answer = await asyncio.wait_for(task, 10)
    assert (answer.json["status"], answer.json["result"]) == ("COMPLETED", {"data": {"n": 2}})


@pytest.mark.usefixtures("registered")
async def test_the_database_is_not_asked_while_its_commits_are_made_here(
    app: Starlette, user: Client, hands: FakeWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = database.rows

    async def noting(sql: str, **params: Any) -> Any:
        asked.append(sql)
        return await rows(sql, **params)

    monkeypatch.setattr(database, "rows", noting)
    async with starting(user, "?wait=30") as task:
        await work(hands)
        await asyncio.wait_for(task, 10)
    assert [sql for sql in asked if "noetl.execution" in sql and "result" in sql] == []


@pytest.mark.usefixtures("registered")
async def test_a_repeated_start_waits_for_the_end_of_the_first(user: Client, hands: FakeWorker) -> None:
    key = {"idempotency-key": "k"}
    first = await user.post("/api/execute", {"path": "demo/two"}, **key)
    async with starting(user, "?wait=30", **key) as task:
        await work(hands)
        answer = await asyncio.wait_for(task, 10)
    again = await user.post("/api/execute?wait=30", {"path": "demo/two"}, **key)
    for answered in (answer, again):
        assert answered.json["execution_id"] == first.json["execution_id"]
        assert (answered.json["status"], answered.json["result"]) == ("COMPLETED", {"data": {"n": 2}})


@pytest.mark.usefixtures("registered")
async def test_a_rerun_waits_too(user: Client, hands: FakeWorker) -> None:
    async with starting(user, "?wait=30") as task:
        await work(hands)
        first = await asyncio.wait_for(task, 10)
    again = asyncio.create_task(user.post(f"/api/executions/{first.json['execution_id']}/rerun?wait=30", {}))
    await work(hands)
    answer = await asyncio.wait_for(again, 10)
    assert answer.json["execution_id"] != first.json["execution_id"]
    assert (answer.json["status"], answer.json["result"]) == ("COMPLETED", {"data": {"n": 2}})


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("wait", ["61", "-1", "soon"])
async def test_a_wait_out_of_bounds_is_refused_and_starts_nothing(user: Client, wait: str) -> None:
    answer = await user.post(f"/api/execute?wait={wait}", {"path": "demo/two"})
    assert answer.status == 400
    assert "/wait" in answer.json["errors"][0]["pointer"]
    assert (await user.get("/api/executions")).json == []
