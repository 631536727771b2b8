from __future__ import annotations

from typing import Any

from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.protocol import VERSION
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores


async def test_a_heartbeat_reports_lost_commands(user: Client, worker: Client, hands: FakeWorker, started: str) -> None:
    [command] = await hands.claim()
    held = {key: command[key] for key in ("execution_id", "command_id", "fence")}
    body = {"worker_id": "w-1", "commands": [held, {**held, "command_id": "gone"}]}
    assert (await worker.post("/api/commands/heartbeat", body)).json == {
        "lost": [{"execution_id": started, "command_id": "gone"}]
    }
    await user.post(f"/api/executions/{started}/cancel")
    lost = (await worker.post("/api/commands/heartbeat", {"worker_id": "w-1", "commands": [held]})).json["lost"]
    assert len(lost) == 1


async def test_a_stale_fence_changes_nothing(hands: FakeWorker, started: str, user: Client) -> None:
    [command] = await hands.claim()
    answer = await hands.report({**command, "fence": command["fence"] + 1}, data=1)
    assert [result["status"] for result in answer["results"]] == ["stale"]
    assert (await user.get(f"/api/executions/{started}/status")).json["completed_steps"] == []


async def test_a_claim_carries_the_plan_only_when_it_is_not_known(
    worker: Client, user: Client, registered: dict[str, Any], playbook: str
) -> None:
    for _ in range(2):
        await user.post("/api/execute", {"path": "demo/two"})
    first = (await worker.post("/api/commands/claim", {"worker_id": "w-1", "limit": 1})).json
    hash = first["commands"][0]["plan"]
    assert first["plans"] == {hash: playbook}
    known = {"worker_id": "w-1", "limit": 1, "plans": [hash]}
    assert (await worker.post("/api/commands/claim", known)).json["plans"] == {}


async def test_a_malformed_report_is_refused_with_pointers(worker: Client) -> None:
    body = {"worker_id": "w-1", "outcomes": [{"execution_id": "1", "command_id": "x", "fence": 1, "status": "odd"}]}
    answer = await worker.post("/api/commands/report", body)
    assert answer.status == 400
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/outcomes/0/status"]


async def test_what_was_claimed_reported_and_committed_is_counted(
    user: Client, hands: FakeWorker, started: str
) -> None:
    async def counted() -> dict[str, float]:
        lines = (await user.get("/metrics")).body.decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("noetl_")]
        return {name: float(value) for name, value in pairs}

    before = await counted()
    [command] = await hands.claim()
    await hands.report({**command, "fence": command["fence"] + 1}, data=1)
    await hands.report(command, data=1)
    after = await counted()
    grown = {
        # the second one came with the answer to the report
        'noetl_commands_claimed_total{kind="step"}': 2,
        'noetl_outcomes_total{result="stale"}': 1,
        'noetl_outcomes_total{result="accepted"}': 1,
        'noetl_commits_total{result="committed"}': 1,
        'noetl_commits_total{result="lost"}': 1,
        "noetl_commit_seconds_count": 2,
    }
    assert {name: after.get(name, 0) - before.get(name, 0) for name in grown} == grown


LARGE = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: large, path: t/large}
workflow:
  - {step: a, tool: {kind: python, input: {text: "{{ workload.text }}"}, code: "result = len(text)"}}
"""
MAX_ANSWER = 5_000_000


async def test_a_claim_that_would_be_too_large_for_an_answer_gives_back_what_does_not_fit(
    worker: Client, user: Client
) -> None:
    register = {"content": LARGE, "resource_type": "Playbook"}
    assert (await user.post("/api/catalog/register", register)).status < 300
    ids = set()
    for _ in range(3):
        started = await user.post("/api/execute", {"path": "t/large", "payload": {"text": "x" * 2_500_000}})
        ids.add(started.json["execution_id"])
    got: list[dict[str, Any]] = []
    for _ in range(4):
        answer = await worker.post("/api/commands/claim", {"worker_id": "w-1", "limit": 10})
        assert len(answer.body) <= MAX_ANSWER, "more than a function on AWS may answer"
        got += answer.json["commands"]
    assert [command["delivery"] for command in got] == [1, 1, 1], "what was given back has not been delivered"
    assert {command["execution_id"] for command in got} == ids


async def test_a_worker_that_names_its_protocol_version_gets_that_of_the_control_plane(worker: Client) -> None:
    body = {"worker_id": "w-1", "commands": []}
    response = await worker.post("/api/commands/heartbeat", body, noetl_wire="1")
    assert response.headers["noetl-wire"] == str(VERSION)
    assert "noetl-wire" not in (await worker.post("/api/commands/heartbeat", body)).headers


HELD = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: held, path: t/held}
workflow:
  - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: python, input: {text: "{{ ctx.text }}"}, code: "result = len(text)"}}
"""


async def test_a_worker_of_the_release_before_is_given_values_of_ctx_and_no_references(
    worker: Client, user: Client, hands: FakeWorker, results_url: str
) -> None:
    await user.post("/api/catalog/register", {"content": HELD, "resource_type": "Playbook"})
    text = "x" * 100_000
    for version in ("1", "2"):
        id = (await user.post("/api/execute", {"path": "t/held"})).json["execution_id"]
        [first] = await hands.claim()
        put = await externalise(
            text,
            Place(execution_id=id, step="a", suffix="s"),
            ResultStores(FsspecResultStore(results_url)),
            Output(inline_bytes=0),
        )
        ref = put["ref"]
        names = {name: first[name] for name in ("execution_id", "command_id", "fence")}
        body = {
            "worker_id": "w-1",
            "capacity": 1,
            "outcomes": [{**names, "status": "done", "set": {"n": 1}, "set_refs": {"text": ref}}],
        }
        [second] = (await worker.post("/api/commands/report", body, noetl_wire=version)).json["commands"]
        if version == "1":
            assert second["scope"] == {"ctx": {"text": text}, "steps": {}}
        else:
            assert second["scope"] == {"ctx": {}, "steps": {}, "ctx_refs": {"text": ref}}
        status = (await user.get(f"/api/executions/{id}/status")).json
        assert status["variables"] == {"n": 1, "text": ref}
        full = (await user.get(f"/api/executions/{id}/status", full="true")).json
        assert full["variables"] == {"n": 1, "text": text}
        beside = (await user.get(f"/api/executions/{id}/recording")).json
        assert [row["key"] for row in beside["results"]] == [ref["key"]], "a capsule leaves it out"
        await hands.report(second, data=1)
        assert (await user.get("/api/replay/validate", execution_id=id)).json["differences"] == []
        rebuilt = await user.of("operator").post("/api/replay/rebuild", {"execution_id": id})
        assert rebuilt.status == 200, rebuilt.body
        assert (await user.get("/api/replay/validate", execution_id=id)).json["differences"] == []
        again = (await user.get(f"/api/executions/{id}/recording")).json
        assert again["results"] == beside["results"]
