"""Going on with an execution that has ended, over REST."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.database import Database

BOOM = {"kind": "tool", "code": "boom", "message": "it broke", "retryable": False}


@pytest.fixture
async def failed(started: str, hands: FakeWorker) -> str:
    """An execution that failed at its second step."""
    [first] = await hands.claim()
    [second] = (await hands.report(first, data=41))["commands"]
    await hands.report(second, status="error", error=BOOM)
    return started


async def restart(user: Client, id: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    answer = await user.post(f"/api/executions/{id}/restart", body or {}, **headers)
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def test_both_executions_name_each_other(user: Client, hands: FakeWorker, failed: str) -> None:
    answer = await restart(user, failed)
    new = answer.pop("execution_id")
    assert answer == {
        "restarted_from": failed,
        "version": 1,
        "from": ["second"],
        "reused": ["first"],
        "skipped": [],
        "failed": [],
        "items_reused": {},
        "again": ["second"],
        "warnings": [],
        "commands_generated": 1,
    }
    [second] = await hands.claim()
    assert (second["step"], second["execution_id"]) == ("second", new)
    await hands.report(second, data=2)
    old, now = [(await user.get(f"/api/executions/{id}")).json for id in (failed, new)]
    assert (old["restarts"], old["restarted_from"], old["status"]) == ([new], None, "FAILED")
    assert (now["restarts"], now["restarted_from"], now["status"]) == ([], failed, "COMPLETED")
    listed = {entry["execution_id"]: entry["restarted_from"] for entry in (await user.get("/api/executions")).json}
    assert listed == {failed: None, new: failed}


async def test_its_projections_are_what_its_log_says_and_can_be_rebuilt(
    user: Client, hands: FakeWorker, database: Database, failed: str
) -> None:
    new = (await restart(user, failed))["execution_id"]
    assert (await user.get("/api/replay/validate", execution_id=new)).json == {
        **(await user.get("/api/replay/validate", execution_id=new)).json,
        "valid": True,
        "differences": [],
    }
    await database.run("UPDATE noetl.execution SET restart_of = 1 WHERE execution_id = :id", id=int(new))
    [difference] = (await user.get("/api/replay/validate", execution_id=new)).json["differences"]
    assert (difference["row"], difference["log"]) == ({"restart_of": "1"}, {"restart_of": failed})
    answer = await user.of("operator").post("/api/replay/rebuild", {"execution_id": new})
    assert answer.status == 200, answer.body
    assert (await user.get("/api/replay/validate", execution_id=new)).json["valid"]
    await database.run("DELETE FROM noetl.execution WHERE execution_id = :id", id=int(new))
    assert (await user.of("operator").post("/api/replay/rebuild", {"execution_id": new})).status == 200
    assert (await user.get(f"/api/executions/{new}")).json["restarted_from"] == failed


APPROVALS = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: asking, path: demo/asking}
workflow:
  - {step: ask, tool: {kind: wait, approval: boss}, next: {arcs: [{step: wait}]}}
  - {step: wait, tool: {kind: wait, signal: go}, next: {arcs: [{step: ask}]}}
"""


async def test_a_decision_on_what_stays_done_is_refused_when_it_comes_again(user: Client, hands: FakeWorker) -> None:
    assert (await user.post("/api/catalog/register", {"content": APPROVALS})).status == 200
    id = (await user.post("/api/execute", {"path": "demo/asking"})).json["execution_id"]
    decision = {"data": {"approved": True}, "decision": True}
    [command] = await hands.claim()
    await hands.report(command, status="parked", wait={"signal": "boss", "approval": True})
    assert (await user.post(f"/api/executions/{id}/signals/boss", decision)).status == 200
    refused = await user.post(f"/api/executions/{id}/signals/boss", decision)
    assert (await user.post(f"/api/executions/{id}/cancel", {})).status == 200
    new = (await restart(user, id))["execution_id"]
    again = await user.post(f"/api/executions/{new}/signals/boss", decision)
    assert (again.status, again.json["detail"]) == (refused.status, refused.json["detail"]) != (200, None)
    assert (await user.get("/api/replay/validate", execution_id=new)).json["valid"]


LOOP = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: looping, path: demo/looping}
workflow:
  - step: each
    loop: {in: "{{ [1, 2] }}", iterator: n, spec: {mode: sequential}}
    tool: {kind: python, code: "result = 1"}
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "result = 1"}}
"""


@pytest.mark.parametrize("size", [1, 40_000], ids=["small", "large"])
async def test_the_results_of_a_loop_that_stays_done_are_read_from_both_executions(
    user: Client, hands: FakeWorker, size: int
) -> None:
    assert (await user.post("/api/catalog/register", {"content": LOOP})).status == 200
    id = (await user.post("/api/execute", {"path": "demo/looping"})).json["execution_id"]
    rows = ["a" * size, "b" * size]
    [command] = await hands.claim()
    while command["step"] == "each":
        start, end = command["frame"]["start"], command["frame"]["end"]
        frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
        [command] = (await hands.report(command, frame=frame, data=rows[start:end]))["commands"]
    await hands.report(command, status="error", error=BOOM)
    new = (await restart(user, id))["execution_id"]
    path = f"/api/aggregate/loop/results?step_name=each&execution_id={new}"
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = await user.get(f"{path}&after={after}")
        assert page.status == 200, page.body
        assert page.json["stats"] == {"total": 2, "success": 2, "failed": 0}
        found += page.json["results"]
        after = page.json["next"]
    assert found == rows
    assert (await user.get(f"{path}&after=1")).json["results"] == rows[1:]
    whole = await user.get(f"/api/result/{new}/each")
    if size == 1:
        assert whole.json["data"]["results"] == rows
    else:
        assert (whole.status, whole.json["loop_results"]) == (
            409,
            path.replace("step_name=each&", "") + "&step_name=each",
        )
    assert (await user.get("/api/aggregate/loop/results", execution_id=new, step_name="last")).status == 404


async def test_a_key_starts_one_restart(user: Client, failed: str) -> None:
    answers = await asyncio.gather(*(restart(user, failed, idempotency_key="k") for _ in range(4)))
    assert len({answer["execution_id"] for answer in answers}) == 1
    other = await user.post(f"/api/executions/{failed}/restart", {"from": "first"}, idempotency_key="k")
    assert other.status == 409
    dry = await user.post(f"/api/executions/{failed}/restart", {"dry_run": True}, idempotency_key="k")
    assert dry.status == 400


async def test_a_dry_run_shows_the_same_and_starts_nothing(user: Client, failed: str) -> None:
    shown = await restart(user, failed, {"dry_run": True})
    assert (shown["execution_id"], shown["from"], shown["reused"]) == (None, ["second"], ["first"])
    assert len((await user.get("/api/executions")).json) == 1


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"from": "third"}, 400, "there is no step 'third'"),
        ({"version": 7}, 404, "version"),
        ({"version": "newest"}, 400, "version"),
        ({"payload": {"ctx": 1}}, 400, "payload.ctx must be an object"),
        ({"payload": {"ctx": {"a": "x" * 70_000}}}, 400, "payload.ctx has 70008 bytes; the limit is 65536"),
    ],
)
async def test_what_it_cannot_do_it_refuses(
    user: Client, failed: str, body: dict[str, Any], status: int, detail: str
) -> None:
    answer = await user.post(f"/api/executions/{failed}/restart", body)
    assert (answer.status, detail in answer.body.decode()) == (status, True), answer.body


async def test_what_runs_is_not_restarted(user: Client, started: str) -> None:
    answer = await user.post(f"/api/executions/{started}/restart", {})
    assert (answer.status, answer.json["code"]) == (409, "resource.conflict")
    assert "cancel it first" in answer.json["detail"]
    assert (await user.post("/api/executions/1/restart", {})).status == 404


async def test_references_to_the_results_of_the_old_one_are_accepted(
    user: Client, hands: FakeWorker, results_url: str, started: str
) -> None:
    key = f"{started}/first/1.json"
    await FsspecResultStore(results_url).put(key, b"[1]")
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{started}/result/first/00000001",
        "store": "disk",
        "key": key,
        "meta": {"bytes": 3, "sha256": "0" * 64},
    }
    [first] = await hands.claim()
    [second] = (await hands.report(first, ref=ref))["commands"]
    await hands.report(second, status="error", error=BOOM)
    new = (await restart(user, started))["execution_id"]
    assert (await user.get(f"/api/results/data/{new}", key=key)).status == 200
    [second] = await hands.claim()
    answer = await hands.report(second, ref=ref)
    assert [result["status"] for result in answer["results"]] == ["accepted"], answer
    assert (await user.get(f"/api/executions/{new}")).json["result"]["ref"]["key"] == key


async def test_a_result_that_is_no_longer_stored_cannot_be_reused(
    user: Client, hands: FakeWorker, started: str
) -> None:
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{started}/result/first/00000001",
        "store": "disk",
        "key": f"{started}/first/1.json",
        "meta": {"bytes": 3, "sha256": "0" * 64},
    }
    [first] = await hands.claim()
    [second] = (await hands.report(first, ref=ref))["commands"]
    await hands.report(second, status="error", error=BOOM)
    answer = await user.post(f"/api/executions/{started}/restart", {})
    assert (answer.status, "no longer stored: that of first" in answer.json["detail"]) == (409, True), answer.body
    assert (await restart(user, started, {"from": "first"}))["reused"] == []


async def test_a_result_in_a_store_that_the_deployment_lacks_cannot_be_reused(
    user: Client, hands: FakeWorker, started: str
) -> None:
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{started}/result/first/00000001",
        "store": "s3",
        "key": f"{started}/first/1.json",
        "meta": {"bytes": 3, "sha256": "0" * 64},
    }
    [first] = await hands.claim()
    [second] = (await hands.report(first, ref=ref))["commands"]
    await hands.report(second, status="error", error=BOOM)
    answer = await user.post(f"/api/executions/{started}/restart", {})
    assert (answer.status, "'s3', which this deployment does not have: that of first" in answer.json["detail"]) == (
        409,
        True,
    ), answer.body
    answer = await user.get(f"/api/results/data/{started}", key=ref["key"])
    assert (answer.status, "the result store 's3', which this deployment lacks" in answer.json["detail"]) == (404, True)
