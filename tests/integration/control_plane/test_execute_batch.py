"""Many executions by one request, and executions that record what they come from."""

from __future__ import annotations

from typing import Any

from tests.integration.control_plane.conftest import Client, FakeWorker


async def test_each_entry_is_started_or_refused_by_itself(user: Client, registered: dict[str, Any]) -> None:
    entries = [
        {"path": "demo/two", "payload": {"a": {"b": 5}}},
        {"path": "nowhere"},
        {"catalog_id": registered["catalog_id"], "workload": {"z": 2}},
        {"path": "demo/two", "payloud": {}},
        7,
        {"path": "demo/two", "payload": {"n": 2**70}},
        {},
    ]
    answer = await user.post("/api/execute/batch", entries[:5] + entries[6:])
    assert answer.status == 200, answer.body
    assert [(entry["index"], entry["status"]) for entry in answer.json] == [
        (0, "started"), (1, "failed"), (2, "started"), (3, "failed"), (4, "failed"), (5, "failed"),
    ]  # fmt: skip
    problems = [entry["error"] for entry in answer.json if entry["error"]]
    assert [(problem["status"], problem["code"]) for problem in problems] == [
        (404, "resource.not_found"), (400, "request.invalid"), (400, "request.invalid"), (400, "request.invalid"),
    ]  # fmt: skip
    assert "there is no field 'payloud'" in problems[1]["detail"]
    started = [entry["execution_id"] for entry in answer.json if entry["status"] == "started"]
    workloads = []
    for id in started:
        first = (await user.get(f"/api/executions/{id}/events", limit=1)).json[0]
        workloads.append(first["payload"]["workload"])
    assert workloads == [{"a": {"b": 5, "c": 2}}, {"a": {"b": 1, "c": 2}, "z": 2}]
    assert len((await user.get("/api/executions")).json) == 2


async def test_a_value_that_cannot_be_stored_fails_its_entry_only(user: Client, registered: dict[str, Any]) -> None:
    body = b'[{"path": "demo/two", "payload": {"n": 1180591620717411303424}}, {"path": "demo/two"}]'
    answer = await user.call("POST", "/api/execute/batch", body)
    assert [entry["status"] for entry in answer.json] == ["failed", "started"], answer.json
    assert answer.json[0]["error"]["status"] == 400


async def test_a_key_of_the_request_is_one_for_each_entry(user: Client, registered: dict[str, Any]) -> None:
    entries = [{"path": "demo/two"}, {"path": "demo/two"}]
    first, again = [(await user.post("/api/execute/batch", entries, idempotency_key="k")).json for _ in range(2)]
    ids = [entry["execution_id"] for entry in first]
    assert len(set(ids)) == 2, "two entries of one request are two executions"
    assert [entry["execution_id"] for entry in again] == ids
    other = (
        await user.post("/api/execute/batch", [{"path": "demo/two", "payload": {"x": 1}}], idempotency_key="k")
    ).json
    assert (other[0]["status"], other[0]["error"]["status"]) == ("failed", 409)
    single = (await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k")).json
    assert single["execution_id"] not in ids, "a key of a list and one of a single start are different keys"
    assert len((await user.get("/api/executions")).json) == 3


async def test_a_list_is_bounded(user: Client, registered: dict[str, Any]) -> None:
    for body in ([], [{"path": "demo/two"}] * 101, {"path": "demo/two"}):
        assert (await user.post("/api/execute/batch", body)).status == 400, body
    assert (await user.get("/api/executions")).json == []


async def test_an_execution_records_what_it_was_started_for(user: Client, hands: FakeWorker, started: str) -> None:
    body = {"path": "demo/two", "parent_execution_id": started}
    answer = await user.post("/api/execute", body, idempotency_key="k")
    id = answer.json["execution_id"]
    detail = (await user.get(f"/api/executions/{id}")).json
    assert detail["origin"] == {"parent_execution_id": started, "rerun_of": None}
    assert detail["parent_execution_id"] is None, "it is no sub-playbook"
    assert (await user.get(f"/api/executions/{started}")).json["origin"] is None
    assert (await user.post("/api/execute", {**body, "parent_execution_id": "77"})).status == 404
    assert (await user.post("/api/execute", body, idempotency_key="k")).json["execution_id"] == id
    assert (await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k")).status == 409
    await hands.finish()
    valid = (await user.get("/api/replay/validate", execution_id=id)).json
    assert valid["valid"], valid


async def test_a_rerun_records_what_it_repeats(user: Client, started: str) -> None:
    second = (await user.post(f"/api/executions/{started}/rerun", {})).json["execution_id"]
    assert (await user.get(f"/api/executions/{second}")).json["origin"] == {
        "parent_execution_id": None,
        "rerun_of": started,
    }
