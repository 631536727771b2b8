"""Where the steps of an execution stand, and how its commands went."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Client, Upstream
from .test_graphql import Ask, entry


@pytest.fixture
def ask(call: Client, viewer: str) -> Ask:
    return Ask(call, viewer)


async def test_where_the_steps_of_an_execution_stand_can_be_asked_for(ask: Ask, upstream: Upstream) -> None:
    steps = [
        {
            "step": "load",
            "generation": 1,
            "status": status,
            **dict.fromkeys(("queued", "running", "delayed", "parked"), 0),
            **dict.fromkeys(("queued_since", "running_since", "queued_ms", "due_at", "worker")),
            "deliveries": 0,
            "children": ["8"] if status == "parked" else [],
        }
        for status in ("queued", "running", "delayed", "parked", "waiting")
    ]
    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/executions/7/status"] = {"under_way": steps}
    found = await ask.data(
        """{ execution(id: "7") { underWay { step generation status queued running delayed parked queuedSince
            runningSince queuedMs dueAt worker deliveries children } } }"""
    )
    shown = found["execution"]["underWay"]
    assert [step["status"] for step in shown] == ["queued", "running", "delayed", "parked", "waiting"]
    assert shown[3]["children"] == ["8"]


async def test_the_runs_of_an_execution_are_paged(ask: Ask, upstream: Upstream) -> None:
    def run(seq: int) -> dict[str, Any]:
        failed = {
            "attempt": 1,
            "task": "a",
            "index": 4,
            "error": {"code": "http.status"},
            "started_at": "2026-01-01T00:00:00Z",
            "ended_at": "2026-01-01T00:00:01Z",
            "worker": "w-1",
        }
        return {
            "seq": seq,
            "event_type": "frame.committed",
            "step": "each",
            "generation": 1,
            "command_id": "each#1",
            "first_item": 0,
            "end_item": 9,
            "worker": "w-1",
            "issued_at": None,
            "started_at": None,
            "ended_at": "2026-01-01T00:00:02Z",
            "queued_ms": 20,
            "run_ms": 30.5,
            "waited_ms": 0.0,
            "attempts": [failed],
            "attempts_dropped": 2,
            "lost": [{"worker": "w-0", "delivery": 1, "claimed_at": None, "lease_until": None}],
        }

    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/executions/7/runs"] = [run(3), run(5)]
    found = await ask.data(
        """{ execution(id: "7") { runs(first: 1, step: "each", failed: true) {
            nodes { seq queuedMs runMs waitedMs firstItem endItem attemptsDropped
                attempts { attempt task index error startedAt endedAt worker }
                lost { worker delivery claimedAt leaseUntil } }
            pageInfo { hasNextPage endCursor } } } }"""
    )
    assert upstream.last.query == {"after": "0", "limit": "2", "step": "each", "failed": "true"}
    page = found["execution"]["runs"]
    [shown] = page["nodes"]
    assert (shown["queuedMs"], shown["runMs"], shown["attemptsDropped"]) == (20, 30.5, 2)
    assert shown["attempts"] == [
        {
            "attempt": 1,
            "task": "a",
            "index": 4,
            "error": {"code": "http.status"},
            "worker": "w-1",
            "startedAt": "2026-01-01T00:00:00Z",
            "endedAt": "2026-01-01T00:00:01Z",
        }
    ]
    assert shown["lost"] == [{"worker": "w-0", "delivery": 1, "claimedAt": None, "leaseUntil": None}]
    assert page["pageInfo"]["hasNextPage"]
    query = """query ($after: String) { execution(id: "7") { runs(after: $after) { nodes { seq } } } }"""
    await ask.data(query, after=page["pageInfo"]["endCursor"])
    assert upstream.last.query == {"after": "3", "limit": "51"}
