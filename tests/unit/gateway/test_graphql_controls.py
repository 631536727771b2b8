"""Executions are paused, resumed, signalled and restarted by GraphQL."""

from __future__ import annotations

import pytest

from .conftest import Client, Upstream
from .test_graphql import Ask, entry


@pytest.fixture
def ask(call: Client, editor: str) -> Ask:
    return Ask(call, editor)


async def test_an_execution_is_paused_and_resumed(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/executions/7/pause"] = {"execution_id": "7", "status": "paused"}
    upstream.answers["POST /api/executions/7/resume"] = {"execution_id": "7", "status": "resumed"}
    found = await ask.data('mutation { pauseExecution(executionId: "7", reason: "full") { executionId status } }')
    assert found["pauseExecution"] == {"executionId": "7", "status": "paused"}
    assert upstream.last.json == {"reason": "full"}
    found = await ask.data('mutation { resumeExecution(executionId: "7") { status } }')
    assert found["resumeExecution"] == {"status": "resumed"}


async def test_a_signal_is_sent_with_its_key(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/executions/7/signals/ship it"] = {
        "execution_id": "7",
        "signal": "ship it",
        "status": "accepted",
        "kept": True,
        "waiting_for": ["shipped"],
    }
    found = await ask.data(
        """mutation { signalExecution(executionId: "7", signal: "ship it", data: {approved: true}, idempotencyKey: "k")
            { signal status kept waitingFor } }"""
    )
    assert found["signalExecution"] == {
        "signal": "ship it",
        "status": "accepted",
        "kept": True,
        "waitingFor": ["shipped"],
    }
    assert upstream.last.json == {"data": {"approved": True}}
    assert upstream.last.headers["idempotency-key"] == "k"


async def test_a_decision_is_sent_as_one(ask: Ask, upstream: Upstream) -> None:
    answer = {"execution_id": "7", "signal": "boss", "status": "accepted", "kept": False, "waiting_for": []}
    upstream.answers["POST /api/executions/7/signals/boss"] = answer
    given = '(executionId: "7", signal: "boss", data: {approved: true}, decision: true)'
    await ask.data(f"mutation {{ signalExecution{given} {{ status }} }}")
    assert upstream.last.json == {"data": {"approved": True}, "decision": True}


async def test_an_execution_is_restarted(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["POST /api/executions/7/restart"] = {
        "execution_id": "8",
        "restarted_from": "7",
        "version": 2,
        "from": ["load"],
        "reused": ["read", "other"],
        "skipped": ["other"],
        "failed": ["read"],
        "items_reused": {"load": 3},
        "again": ["load"],
        "warnings": [],
    }
    found = await ask.data(
        """mutation { restartExecution(executionId: "7", from: "load", latest: true, variables: {n: 2})
            { executionId restartedFrom version from reused skipped failed itemsReused again warnings } }"""
    )
    assert found["restartExecution"] == {
        "executionId": "8",
        "restartedFrom": "7",
        "version": 2,
        "from": ["load"],
        "reused": ["read", "other"],
        "skipped": ["other"],
        "failed": ["read"],
        "itemsReused": {"load": 3},
        "again": ["load"],
        "warnings": [],
    }
    assert upstream.last.json == {"from": "load", "version": "latest", "payload": {"n": 2}, "dry_run": False}
    await ask.data('mutation { restartExecution(executionId: "7", dryRun: true) { executionId } }')
    assert upstream.last.json == {"payload": {}, "dry_run": True}


async def test_paused_executions_are_found(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = [entry(7)]
    for arguments in ("paused: true", "paused: true, status: RUNNING"):
        await ask.data(f"{{ executions({arguments}) {{ nodes {{ id }} }} }}")
        assert upstream.last.query["status"] == "PAUSED"
    await ask.data("{ executions(paused: false, status: FAILED) { nodes { id } } }")
    assert upstream.last.query["status"] == "FAILED"
    error = await ask.error("{ executions(paused: true, status: FAILED) { nodes { id } } }")
    assert "paused executions have the status RUNNING, not FAILED" in error["message"]


async def test_pauses_and_restarts_are_shown(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = [
        {**entry(7), "paused_since": "2026-01-01T00:00:00Z", "restarted_from": "6"}
    ]
    upstream.answers["GET /api/executions/7"] = {**entry(7), "warnings": [], "quarantined": False, "restarts": ["9"]}
    found = await ask.data("{ executions { nodes { pausedSince restartedFrom restarts } } }")
    assert found["executions"]["nodes"] == [
        {"pausedSince": "2026-01-01T00:00:00Z", "restartedFrom": "6", "restarts": ["9"]}
    ]
