"""Quarantine over REST: looked at, retried, dropped, cancelled; and what an execution tells of itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e

TEXT = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\nworkflow:\n{workflow}"
UNMATCHED = """\
  - step: first
    tool: {kind: noop}
    next: {arcs: [{step: second, when: "{{ output.data.n > 5 }}"}]}
  - {step: second, tool: {kind: noop}}
"""


@pytest.fixture
def fault() -> Iterator[pytest.MonkeyPatch]:
    """Until it is undone, the engine cannot decide what follows from the end of the step `first`."""
    sound = decide.DECIDE[e.CALL_DONE]

    def broken(decider: decide.Decider) -> None:
        if decider.fact.step == "first":
            raise RuntimeError("no idea what follows")
        sound(decider)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        yield patch


@pytest.fixture
async def quarantined(user: Client, hands: FakeWorker, started: str, fault: pytest.MonkeyPatch) -> str:
    [command] = await hands.claim()
    answer = await hands.report(command, data={"rows": "x" * 10_000})
    assert answer["results"][0]["status"] == "accepted"
    return started


async def test_it_is_listed_and_shown_with_what_is_kept(user: Client, quarantined: str) -> None:
    [listed] = (await user.get("/api/quarantine")).json["items"]
    error = listed.pop("error")
    assert listed.pop("at")
    assert listed == {"execution_id": quarantined, "path": "demo/two", "version": 1, "seq": 3, "fact_count": 1}
    assert (error["code"], error["place"].partition(":")[0]) == ("engine.undecidable", "engine/decide.py")
    assert "no idea what follows" in error["message"]
    shown = (await user.get(f"/api/quarantine/{quarantined}")).json
    [fact] = shown["facts"]
    assert (fact["type"], fact["step"], fact["command_id"]) == ("call.done", "first", "first#1")
    assert fact["payload"] is None, "a large payload is clipped"
    assert fact["payload_bytes"] > 10_000
    assert len(fact["beginning"]) == 4096
    assert fact["beginning"].startswith('{"data":{"rows":"xxx')


async def test_a_page_leads_to_the_next(
    user: Client, hands: FakeWorker, registered: dict[str, Any], fault: pytest.MonkeyPatch
) -> None:
    ids = [(await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"] for _ in range(3)]
    for command in await hands.claim():
        await hands.report(command, data=1)
    first = await user.get("/api/quarantine", limit=2)
    assert [entry["execution_id"] for entry in first.json["items"]] == sorted(ids, key=int)[:2]
    after = first.json["next"]
    assert after == first.json["items"][-1]["execution_id"]
    assert first.headers["link"] == f'<?limit=2&after={after}>; rel="next"'
    rest = await user.get("/api/quarantine", after=after, limit=2)
    assert [entry["execution_id"] for entry in rest.json["items"]] == sorted(ids, key=int)[2:]
    assert (rest.json["next"], "link" in rest.headers) == (None, False)
    assert (await user.get("/api/quarantine", limit=101)).status == 400


async def test_the_execution_says_that_it_is_in_quarantine(user: Client, quarantined: str) -> None:
    for place in ("", "/status"):
        entry = (await user.get(f"/api/executions/{quarantined}{place}")).json
        assert (entry["status"], entry["quarantined"]) == ("FAILED", True)
        assert entry["error"]["code"] == "engine.undecidable"
    status = (await user.get(f"/api/executions/{quarantined}/status")).json
    assert (status["current_steps"], status["under_way"]) == ([], []), "in quarantine nothing runs"


async def test_a_retry_once_the_fault_is_gone_goes_on(
    user: Client, hands: FakeWorker, quarantined: str, fault: pytest.MonkeyPatch
) -> None:
    place = f"/api/quarantine/{quarantined}/retry"
    again = (await user.post(place)).json
    assert again == {"execution_id": quarantined, "status": "FAILED", "quarantined": True}
    fault.undo()
    assert (await user.post(place)).json == {"execution_id": quarantined, "status": "RUNNING", "quarantined": False}
    await hands.finish()
    entry = (await user.get(f"/api/executions/{quarantined}")).json
    assert (entry["status"], entry["quarantined"]) == ("COMPLETED", False)
    assert (await user.get("/api/quarantine")).json == {"items": [], "next": None}
    answer = await user.post(place)
    assert (answer.status, answer.json["code"]) == (409, "resource.conflict")


async def test_what_is_dropped_stays_failed(user: Client, quarantined: str) -> None:
    before = (await user.get(f"/api/executions/{quarantined}")).json
    user.headers["x-noetl-user"] = "ada"
    dropped = await user.delete(f"/api/quarantine/{quarantined}")
    assert dropped.json == {"status": "dropped", "execution_id": quarantined}
    entry = (await user.get(f"/api/executions/{quarantined}")).json
    assert (entry["status"], entry["quarantined"]) == ("FAILED", False)
    assert entry["end_time"] == before["end_time"], "it ended when it went into quarantine"
    *_, last = (await user.get(f"/api/executions/{quarantined}/events")).json
    assert (last["event_type"], last["payload"]["by"]) == ("execution.dropped", {"kind": "user", "name": "ada"})
    assert (await user.get("/api/replay/validate", execution_id=quarantined)).json["differences"] == []
    assert (await user.get(f"/api/quarantine/{quarantined}")).status == 404
    assert (await user.delete(f"/api/quarantine/{quarantined}")).status == 404


async def test_it_can_be_cancelled(user: Client, quarantined: str) -> None:
    answer = (await user.post(f"/api/executions/{quarantined}/cancel", {})).json
    assert (answer["status"], answer["cancelled_executions"]) == ("cancelled", [quarantined])
    assert (await user.get("/api/quarantine")).json == {"items": [], "next": None}


async def test_what_is_not_in_quarantine_is_not_found(user: Client, started: str) -> None:
    for id in (started, "7", "nonsense"):
        assert (await user.get(f"/api/quarantine/{id}")).status == 404, id
        assert (await user.delete(f"/api/quarantine/{id}")).status == 404, id
    assert (await user.post("/api/quarantine/7/retry")).status == 404
    assert (await user.post(f"/api/quarantine/{started}/retry")).status == 409


async def test_workers_may_not_and_every_change_is_audited(
    user: Client, worker: Client, quarantined: str, caplog: pytest.LogCaptureFixture
) -> None:
    for answer in (
        await worker.get("/api/quarantine"),
        await worker.post(f"/api/quarantine/{quarantined}/retry"),
        await worker.delete(f"/api/quarantine/{quarantined}"),
    ):
        assert answer.status == 403
    with caplog.at_level(logging.INFO):
        await user.get("/api/quarantine")
        await user.post(f"/api/quarantine/{quarantined}/retry")
        await user.delete(f"/api/quarantine/{quarantined}")
    audited = [record.operation for record in caplog.records if record.message == "audit"]  # type: ignore[attr-defined]
    assert audited == ["retryQuarantined", "dropQuarantined"]


async def test_an_end_that_no_arc_fitted_warns(user: Client, hands: FakeWorker) -> None:
    await user.post("/api/catalog/register", {"content": TEXT.format(path="t/unmatched", workflow=UNMATCHED)})
    id = (await user.post("/api/execute", {"path": "t/unmatched"})).json["execution_id"]
    assert (await user.get(f"/api/executions/{id}")).json["warnings"] == []
    await hands.finish()
    for place in ("", "/status"):
        entry = (await user.get(f"/api/executions/{id}{place}")).json
        [warning] = entry["warnings"]
        assert (warning["code"], warning["step"]) == ("routing.no_match", "first")
        assert "no arc of step 'first' was taken" in warning["message"]


async def test_an_execution_shows_who_started_it(user: Client, hands: FakeWorker, registered: dict[str, Any]) -> None:
    own = (await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"]
    user.headers["x-noetl-user"] = "ada"
    hers = (await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"]
    listed = {entry["execution_id"]: entry["principal"] for entry in (await user.get("/api/executions")).json}
    assert listed == {own: {"kind": "gateway", "name": "test-gateway"}, hers: {"kind": "user", "name": "ada"}}
    for place in ("", "/status"):
        assert (await user.get(f"/api/executions/{hers}{place}")).json["principal"] == listed[hers]


async def test_its_projections_are_those_of_its_log(
    user: Client, hands: FakeWorker, started: str, fault: pytest.MonkeyPatch
) -> None:
    async def differences() -> Any:
        return (await user.get("/api/replay/validate", execution_id=started)).json["differences"]

    [command] = await hands.claim()
    uri = f"noetl://execution/{started}/result/first/00000000"
    meta = {"bytes": 9, "sha256": "0" * 64, "content_type": "application/json"}
    ref = {"kind": "result_ref", "ref": uri, "store": "disk", "key": f"{started}/first/0", "meta": meta}
    await hands.report(command, ref=ref)
    assert (await user.get(f"/api/executions/{started}")).json["quarantined"]
    assert await differences() == [], "in quarantine"
    rebuilt = await user.of("operator").post("/api/replay/rebuild", {"execution_id": started})
    assert rebuilt.status == 200, rebuilt.body
    assert await differences() == [], "rebuilt"
    fault.undo()
    await user.post(f"/api/quarantine/{started}/retry")
    assert await differences() == [], "retried"
    await hands.finish()
    assert await differences() == [], "ended"


async def test_a_rebuild_leaves_it_in_quarantine(
    user: Client, hands: FakeWorker, quarantined: str, fault: pytest.MonkeyPatch
) -> None:
    answer = await user.of("operator").post("/api/replay/rebuild", {"execution_id": quarantined})
    assert answer.status == 200, answer.body
    assert (await user.get(f"/api/executions/{quarantined}")).json["quarantined"]
    fault.undo()
    assert (await user.post(f"/api/quarantine/{quarantined}/retry")).json["status"] == "RUNNING"
    await hands.finish()
    assert (await user.get(f"/api/executions/{quarantined}")).json["status"] == "COMPLETED"
