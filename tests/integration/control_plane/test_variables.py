"""Variables of executions over REST, on a real PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.store.database import Database

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: v, path: demo/variables}
workflow:
  - step: hold
    tool: {kind: wait, signal: go}
    set: {vars.count: 2}
    next: {arcs: [{step: read}]}
  - step: read
    tool: {kind: python, input: {limit: "{{ vars.limit }}", count: "{{ vars.count }}"}, code: "result = limit * count"}
"""


@pytest.fixture
async def waiting(user: Client, hands: FakeWorker) -> str:
    """The id of an execution that waits for the signal `go`."""
    assert (await user.post("/api/catalog/register", {"content": PLAYBOOK})).status == 200
    id = str((await user.post("/api/execute", {"path": "demo/variables"})).json["execution_id"])
    [command] = await hands.claim()
    await hands.report(command, status="parked", wait={"signal": "go"})
    return id


async def set_variables(user: Client, id: str, variables: dict[str, Any], **more: Any) -> Any:
    answer = await user.post(f"/api/vars/{id}", {"variables": variables, **more})
    assert answer.status == 200, answer.body
    return answer.json


async def listed(user: Client, id: str) -> dict[str, Any]:
    answer = await user.get(f"/api/vars/{id}")
    assert answer.status == 200, answer.body
    variables: dict[str, Any] = answer.json["variables"]
    assert answer.json == {"execution_id": id, "variables": variables, "count": len(variables)}
    return variables


async def is_valid(user: Client, id: str) -> bool:
    answer = (await user.get("/api/replay/validate", execution_id=id)).json
    assert answer["differences"] == []
    return bool(answer["valid"])


async def test_what_is_set_is_listed_with_what_is_known_about_it(user: Client, waiting: str) -> None:
    answer = await set_variables(user, waiting, {"limit": 3, "nothing": None}, var_type="computed", source_step="hold")
    assert answer == {
        "execution_id": waiting,
        "variables_set": 2,
        "var_names": ["limit", "nothing"],
        "status": "accepted",
    }
    found = await listed(user, waiting)
    assert found["nothing"]["value"] is None
    created_at = found["limit"].pop("created_at")
    assert found["limit"] == {
        "value": 3,
        "type": "computed",
        "source_step": "hold",
        "accessed_at": created_at,
        "access_count": 0,
        "expires_at": None,
        "scope": "execution",
    }
    assert await is_valid(user, waiting)


@pytest.mark.parametrize("source_step", ["a\u0000b", "a b", ""])
async def test_what_is_no_name_of_a_step_is_refused(user: Client, waiting: str, source_step: str) -> None:
    answer = await user.post(f"/api/vars/{waiting}", {"variables": {"q": 1}, "source_step": source_step})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert "source_step" in answer.body.decode()
    assert await listed(user, waiting) == {}


async def test_reading_one_is_counted_and_listing_is_not(user: Client, waiting: str) -> None:
    await set_variables(user, waiting, {"x": "v", "other": 1})
    for count in (1, 2):
        read = (await user.get(f"/api/vars/{waiting}/x")).json
        assert (read["execution_id"], read["var_name"], read["value"], read["access_count"]) == (
            waiting,
            "x",
            "v",
            count,
        )
    assert datetime.fromisoformat(read["accessed_at"]) > datetime.fromisoformat(read["created_at"])
    found = await listed(user, waiting)
    assert {name: it["access_count"] for name, it in found.items()} == {"x": 2, "other": 0}
    await set_variables(user, waiting, {"x": "w"})
    assert (await listed(user, waiting))["x"]["access_count"] == 2, "it forgot how often it was read"
    assert await is_valid(user, waiting), "reads count as differences from the log"


async def test_steps_read_and_set_them_and_they_outlive_the_run(
    user: Client, hands: FakeWorker, waiting: str, database: Database
) -> None:
    await set_variables(user, waiting, {"limit": 21})
    await user.post(f"/api/executions/{waiting}/signals/go", {})
    [command] = await hands.claim()
    assert command["scope"]["vars"] == {"count": 2, "limit": 21}
    await hands.report(command, data=42)
    found = await listed(user, waiting)
    assert {name: (it["value"], it["type"], it["source_step"]) for name, it in found.items()} == {
        "limit": (21, "user_defined", None),
        "count": (2, "step_result", "hold"),
    }
    rows = await database.rows(
        "SELECT var_name, var_type, var_value, source_step, scope FROM noetl.transient WHERE execution_id = :id "
        "ORDER BY var_name",
        id=int(waiting),
    )
    assert [tuple(row.values()) for row in rows] == [
        ("count", "step_result", 2, "hold", "execution"),
        ("limit", "user_defined", 21, None, "execution"),
    ]
    assert await is_valid(user, waiting)
    for answer in (
        await user.post(f"/api/vars/{waiting}", {"variables": {"limit": 1}}),
        await user.delete(f"/api/vars/{waiting}/limit"),
        await user.delete(f"/api/vars/{waiting}"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "resource.conflict")


async def test_one_that_has_expired_is_not_counted_as_read(user: Client, waiting: str, database: Database) -> None:
    await set_variables(user, waiting, {"short": 1}, ttl=0.01)
    await database.run("SELECT pg_sleep(0.05)")
    await user.get(f"/api/vars/{waiting}/short")
    counts = await database.run("SELECT access_count FROM noetl.transient WHERE execution_id = :id", id=int(waiting))
    assert counts == [[0]]


async def test_of_one_key_one_is_recorded(user: Client, waiting: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    answers = [await user.post(f"/api/vars/{waiting}", {"variables": {"x": n}}, **key) for n in (1, 2)]
    assert [answer.json["status"] for answer in answers] == ["accepted", "duplicate"]
    assert (await listed(user, waiting))["x"]["value"] == 1


async def test_one_or_all_are_deleted(user: Client, waiting: str) -> None:
    await set_variables(user, waiting, {"a": 1, "b": 2, "c": 3})
    answers = [(await user.delete(f"/api/vars/{waiting}/a")).json for _ in range(2)]
    assert answers == [{"execution_id": waiting, "var_name": "a", "deleted": gone} for gone in (True, False)]
    assert (await user.get(f"/api/vars/{waiting}/a")).status == 404
    assert (await user.delete(f"/api/vars/{waiting}")).json == {"execution_id": waiting, "deleted_count": 2}
    assert await listed(user, waiting) == {}
    assert await is_valid(user, waiting)


async def test_one_that_has_expired_is_gone_for_readers_and_then_from_the_table(
    user: Client, hands: FakeWorker, waiting: str, database: Database
) -> None:
    await set_variables(user, waiting, {"short": 1}, ttl=0.05)
    await set_variables(user, waiting, {"long": 1}, ttl="1h")
    await database.run("SELECT pg_sleep(0.1)")
    assert (await listed(user, waiting)).keys() == {"long"}
    assert (await user.get(f"/api/vars/{waiting}/short")).status == 404
    assert (await user.delete(f"/api/vars/{waiting}/short")).json["deleted"] is False
    await set_variables(user, waiting, {"limit": 1})
    names = await database.run("SELECT var_name FROM noetl.transient WHERE execution_id = :id", id=int(waiting))
    assert sorted(name for (name,) in names) == ["limit", "long"]
    assert await is_valid(user, waiting)


async def test_it_does_not_expire_while_the_execution_is_paused(user: Client, waiting: str, database: Database) -> None:
    await set_variables(user, waiting, {"short": 1}, ttl=2)
    before = datetime.fromisoformat((await listed(user, waiting))["short"]["expires_at"])
    await user.post(f"/api/executions/{waiting}/pause", {})
    await database.run("SELECT pg_sleep(2.1)")
    assert (await user.get(f"/api/vars/{waiting}/short")).status == 200
    await user.post(f"/api/executions/{waiting}/resume")
    after = datetime.fromisoformat((await listed(user, waiting))["short"]["expires_at"])
    assert (after - before).total_seconds() > 2
    assert await is_valid(user, waiting)


async def test_a_rebuild_makes_the_rows_again_and_keeps_how_often_they_were_read(
    user: Client, waiting: str, database: Database
) -> None:
    await set_variables(user, waiting, {"x": 1, "y": 2}, ttl=3600)
    await user.get(f"/api/vars/{waiting}/x")
    expected = await listed(user, waiting)
    await database.run("DELETE FROM noetl.transient WHERE execution_id = :id AND var_name = 'y'", id=int(waiting))
    await database.run(
        "UPDATE noetl.transient SET var_value = '7', var_type = 'computed' WHERE execution_id = :id", id=int(waiting)
    )
    await database.run(
        "INSERT INTO noetl.transient (execution_id, var_name, var_type, var_value, created_at, accessed_at) "
        "VALUES (:id, 'z', 'computed', '1', now(), now())",
        id=int(waiting),
    )
    found = (await user.get("/api/replay/validate", execution_id=waiting)).json["differences"]
    assert {(it["projection"], it["key"]["var_name"]) for it in found} == {("transient", name) for name in "xyz"}
    rebuilt = await user.of("operator").post("/api/replay/rebuild", {"execution_id": waiting})
    assert rebuilt.status == 200, rebuilt.body
    assert await listed(user, waiting) == expected
    assert await is_valid(user, waiting)


class TestRefusals:
    @pytest.mark.parametrize(
        "body",
        [
            {"variables": {}},
            {},
            {"variables": {"a-b": 1}},
            {"variables": {"9a": 1}},
            {"variables": {"a" * 201: 1}},
            {"variables": {"a": "x\0y"}},
            {"variables": {"a": "x" * 70_000}},
            {"variables": {"a": 1}, "var_type": "other"},
            {"variables": {"a": 1}, "ttl": 0},
            {"variables": {"a": 1}, "ttl": "soon"},
            {"variables": {"a": 1}, "ttl": True},
            {"variables": {"a": 1}, "ttl": "20000d"},
            {"variables": {"a": 1}, "extra": 1},
        ],
        ids=lambda body: str(body)[:40],
    )
    async def test_what_cannot_be_set_is_refused(self, user: Client, waiting: str, body: dict[str, Any]) -> None:
        answer = await user.post(f"/api/vars/{waiting}", body)
        assert answer.status == 400, answer.body
        assert await listed(user, waiting) == {}

    async def test_more_than_an_execution_keeps_is_a_conflict(self, user: Client, waiting: str) -> None:
        for n in range(4):
            await set_variables(user, waiting, {f"v{n}": "x" * 60_000})
        answer = await user.post(f"/api/vars/{waiting}", {"variables": {"v4": "x" * 60_000}})
        assert (answer.status, answer.json["code"]) == (409, "resource.conflict")
        assert "all variables together" in answer.json["detail"]

    async def test_of_no_execution_it_is_not_found(self, user: Client, waiting: str) -> None:
        for answer in (
            await user.get("/api/vars/77"),
            await user.get("/api/vars/77/x"),
            await user.get(f"/api/vars/{waiting}/x"),
            await user.post("/api/vars/77", {"variables": {"x": 1}}),
            await user.delete("/api/vars/77"),
        ):
            assert answer.status == 404, answer.body

    async def test_workers_may_not(self, worker: Client, waiting: str) -> None:
        assert (await worker.get(f"/api/vars/{waiting}")).status == 403
