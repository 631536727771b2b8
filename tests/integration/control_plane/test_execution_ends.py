"""Ends that are requested: whether an execution was cancelled, forced ends, and the clean-up of what runs too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, Clock, FakeWorker

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e

PARENT = (
    "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: p, path: demo/parent}\n"
    "workflow: [{step: call, tool: {kind: playbook, path: demo/two}}]\n"
)


@pytest.fixture
async def family(user: Client, hands: FakeWorker, registered: dict[str, Any]) -> tuple[str, str]:
    """The ids of an execution and of its sub-playbook, both running."""
    assert (await user.post("/api/catalog/register", {"content": PARENT})).status == 200
    parent = (await user.post("/api/execute", {"path": "demo/parent"})).json["execution_id"]
    [command] = await hands.claim()
    await hands.report(command, status="parked", child={"path": "demo/two", "payload": {}}, resume={"task": "call"})
    [child] = (await user.get("/api/executions", parent_execution_id=parent)).json
    return parent, child["execution_id"]


@pytest.fixture
def fault() -> Iterator[None]:
    """The engine cannot decide what follows from an outcome."""

    def broken(decider: decide.Decider) -> None:
        raise RuntimeError("no idea what follows")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        yield


class TestCancellationCheck:
    async def test_it_says_whether_and_why(self, user: Client, started: str) -> None:
        place = f"/api/executions/{started}/cancellation-check"
        assert (await user.get(place)).json == {
            "execution_id": started, "cancelled": False, "status": "RUNNING", "ended": False, "reason": None,
        }  # fmt: skip
        await user.post(f"/api/executions/{started}/cancel", {"reason": "enough"})
        assert (await user.get(place)).json == {
            "execution_id": started, "cancelled": True, "status": "CANCELLED", "ended": True, "reason": "enough",
        }  # fmt: skip

    async def test_what_ended_otherwise_was_not_cancelled(self, user: Client, hands: FakeWorker, started: str) -> None:
        await hands.finish()
        found = (await user.get(f"/api/executions/{started}/cancellation-check")).json
        assert (found["cancelled"], found["ended"], found["status"]) == (False, True, "COMPLETED")
        assert (await user.get("/api/executions/77/cancellation-check")).status == 404


class TestFinalize:
    async def test_a_running_one_ends_with_its_sub_playbooks(
        self, user: Client, hands: FakeWorker, family: tuple[str, str]
    ) -> None:
        parent, child = family
        answer = await user.post(f"/api/executions/{parent}/finalize", {"reason": "abandoned"})
        assert answer.status == 200, answer.body
        assert answer.json == {
            "status": "finalized",
            "execution_id": parent,
            "execution_status": "CANCELLED",
            "finalized_executions": [parent, child],
            "message": "forced 2 executions to end",
        }
        for id in family:
            assert (await user.get(f"/api/executions/{id}")).json["status"] == "CANCELLED", id
        error = (await user.get(f"/api/executions/{parent}")).json["error"]
        assert (error["code"], error["message"]) == ("execution.finalized", "abandoned")
        assert await hands.claim() == [], "a command of what has ended was claimed"
        assert (await user.get("/api/replay/validate", execution_id=parent)).json["valid"]

    async def test_one_in_quarantine_leaves_it_and_stays_failed(
        self, user: Client, hands: FakeWorker, started: str, fault: None
    ) -> None:
        [command] = await hands.claim()
        await hands.report(command, data=1)
        assert (await user.get(f"/api/executions/{started}")).json["quarantined"], "it is not in quarantine"
        answer = (await user.post(f"/api/executions/{started}/finalize")).json
        assert (answer["status"], answer["execution_status"]) == ("finalized", "FAILED")
        entry = (await user.get(f"/api/executions/{started}")).json
        assert (entry["status"], entry["quarantined"], entry["error"]["code"]) == ("FAILED", False, e.UNDECIDABLE)
        assert (await user.post(f"/api/executions/{started}/finalize")).json["status"] == "already_completed"

    async def test_one_that_has_ended_stays_as_it_ended(self, user: Client, hands: FakeWorker, started: str) -> None:
        await hands.finish()
        answer = (await user.post(f"/api/executions/{started}/finalize", {"reason": "again"})).json
        assert (answer["status"], answer["execution_status"]) == ("already_completed", "COMPLETED")
        assert answer["finalized_executions"] == []
        assert (await user.post("/api/executions/77/finalize")).status == 404


class TestCleanUp:
    async def test_what_runs_too_long_is_cancelled_with_its_sub_playbooks(
        self, user: Client, family: tuple[str, str], clock: Clock
    ) -> None:
        body = {"older_than_minutes": 30}
        clock.minutes = 20
        young = (await user.post("/api/executions/cleanup", body)).json
        assert (young["cancelled_count"], young["execution_ids"]) == (0, []), "what runs for less was cancelled"
        minute = (await user.post("/api/executions/cleanup", {"older_than_minutes": 1, "dry_run": True})).json
        assert minute["message"] == "2 executions would be cancelled: running for more than 1 minute"
        clock.minutes = 40
        dry = (await user.post("/api/executions/cleanup", {**body, "dry_run": True})).json
        assert (dry["cancelled_count"], sorted(dry["execution_ids"])) == (2, sorted(family))
        assert (await user.get(f"/api/executions/{family[0]}")).json["status"] == "RUNNING", "a dry run has cancelled"
        done = (await user.post("/api/executions/cleanup", body)).json
        assert (done["cancelled_count"], sorted(done["execution_ids"])) == (2, sorted(family))
        assert (done["failed"], done["more"]) == ({}, False)
        for id in family:
            entry = (await user.get(f"/api/executions/{id}")).json
            assert entry["status"] == "CANCELLED", id
        assert (await user.post("/api/executions/cleanup", body)).json["cancelled_count"] == 0

    async def test_one_request_is_bounded_and_says_that_there_are_more(
        self, user: Client, registered: dict[str, Any], clock: Clock
    ) -> None:
        ids = [(await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"] for _ in range(3)]
        clock.minutes = 40
        first = (await user.post("/api/executions/cleanup", {"older_than_minutes": 30, "limit": 2})).json
        assert (first["cancelled_count"], first["more"]) == (2, True)
        second = (await user.post("/api/executions/cleanup", {"older_than_minutes": 30, "limit": 2})).json
        assert (second["cancelled_count"], second["more"]) == (1, False)
        assert sorted(first["execution_ids"] + second["execution_ids"]) == sorted(ids)

    async def test_how_old_has_to_be_said(self, user: Client, started: str) -> None:
        for body in ({}, {"older_than_minutes": 0}, {"older_than_minutes": 30, "limit": 101}):
            assert (await user.post("/api/executions/cleanup", body)).status == 400, body
