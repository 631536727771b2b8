"""The registry of components, by the paths of the original NoETL."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from noetl_serverless.store.database import Database

from .conftest import Client

BODY = {
    "name": "worker-pool-01",
    "component_type": "worker_pool",
    "runtime": "python",
    "base_url": "http://worker",
    "status": "ready",
    "capacity": 10,
    "labels": {"env": "prod"},
    "pid": 12345,
    "hostname": "node-1",
    "meta": {"zone": "a"},
    "pool": "io",
}


async def entries(user: Client, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await user.get("/api/worker/pools", **query)).json["items"]
    return items


async def test_a_component_registers_sends_heartbeats_and_leaves(user: Client) -> None:
    worker = user.of("worker")
    registered = (await worker.post("/api/worker/pool/register", BODY)).json
    [entry] = await entries(user)
    assert registered == {
        "status": "ok",
        "name": "worker-pool-01",
        "runtime_id": entry["runtime_id"],
        "kind": "worker_pool",
        "runtime": "python",
    }
    shown = {name: entry[name] for name in ("uri", "state", "capacity", "labels", "pid", "hostname", "meta", "pool")}
    assert shown == {**{name: BODY[name] for name in shown if name in BODY}, "uri": "http://worker", "state": "ready"}
    beaten = await worker.post("/api/worker/pool/heartbeat", {"name": "worker-pool-01", "status": "busy", "running": 4})
    assert beaten.json == registered
    [entry] = await entries(user)
    assert (entry["state"], entry["running"]) == ("busy", 4)
    left = await worker.call("DELETE", "/api/worker/pool/deregister", orjson.dumps({"name": "worker-pool-01"}))
    assert left.json == {"status": "ok", "name": "worker-pool-01", "kind": "worker_pool"}
    assert await entries(user) == []
    await worker.post("/api/worker/pool/register", BODY)
    assert (await worker.post("/api/worker/pool/deregister", {"name": "worker-pool-01"})).status == 200
    assert (await worker.post("/api/worker/pool/deregister", {"name": "worker-pool-01"})).status == 404


async def test_a_heartbeat_of_an_unknown_one_says_what_to_do(user: Client) -> None:
    answer = await user.post("/api/worker/pool/heartbeat", {"name": "worker-pool-01"})
    assert (answer.status, answer.json["detail"]) == (
        404,
        "there is no component 'worker-pool-01': register it, or send `registration` with the heartbeat",
    )
    again = await user.post("/api/worker/pool/heartbeat", {"name": "worker-pool-01", "registration": BODY})
    assert (again.status, again.json["status"]) == (200, "recreated")
    assert [entry["name"] for entry in await entries(user)] == ["worker-pool-01"]
    other = {**BODY, "name": "another"}
    refused = await user.post("/api/worker/pool/heartbeat", {"name": "x", "registration": other})
    assert (refused.status, refused.json["code"]) == (400, "request.invalid")


async def test_a_component_is_found_by_its_name_alone_where_that_is_enough(user: Client) -> None:
    body = {"name": "mine", "kind": "monitor", "runtime": "python"}
    registered = (await user.post("/api/worker/pool/register", body)).json
    assert (await user.post("/api/worker/pool/heartbeat", {"name": "mine"})).json == registered
    await user.post("/api/worker/pool/register", {**body, "kind": "broker"})
    for route in ("heartbeat", "deregister"):
        refused = await user.post(f"/api/worker/pool/{route}", {"name": "mine"})
        says = "there are components 'mine' of several kinds: give `kind`, one of broker, monitor"
        assert (refused.status, refused.json["detail"]) == (409, says)
    left = await user.post("/api/worker/pool/deregister", {"name": "mine", "component_type": "broker"})
    assert left.json["kind"] == "broker"
    assert (await user.post("/api/worker/pool/deregister", {"name": "mine"})).json["kind"] == "monitor"
    assert (await user.post("/api/worker/pool/deregister", {"name": "mine"})).status == 404
    again = await user.post("/api/worker/pool/heartbeat", {"name": "mine", "registration": body})
    assert (again.json["status"], again.json["kind"]) == ("recreated", "monitor")


async def test_the_dead_are_seen_and_the_pools_are_summed_up(user: Client, database: Database) -> None:
    body = {key: value for key, value in BODY.items() if key != "component_type"}
    kinds = {"a": "worker_pool", "b": "worker_pool", "c": "monitor", "d": "scheduler", "e": "broker"}
    for name, kind in kinds.items():
        assert (await user.post("/api/worker/pool/register", {**body, "name": name, "kind": kind})).status == 200
    await database.run("UPDATE noetl.runtime SET heartbeat = now() - interval '61 s' WHERE name = 'b'")
    assert [entry["name"] for entry in await entries(user, state="dead")] == ["b"]
    assert [entry["name"] for entry in await entries(user, kind="scheduler")] == ["d"]
    first = (await user.get("/api/worker/pools", limit=2)).json
    assert [entry["name"] for entry in first["items"]] == ["a", "b"]
    second = (await user.get("/api/worker/pools", limit=3, after=first["next"])).json
    assert ([entry["name"] for entry in second["items"]], second["next"]) == (["c", "d", "e"], None)
    [pool] = second["pools"]
    assert (pool["pool"], pool["instances"], pool["dead"], pool["capacity"], pool["state"]) == ("io", 1, 1, 10, "ready")
    assert pool["deployed"] is None, "these functions do not know the deployment's pools"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"kind": "shop"}, "/kind"), ({"status": "well"}, "/status"), ({"name": ""}, "/name"), ({"more": 1}, "/more")],
)
async def test_what_is_wrong_is_refused_with_its_place(user: Client, change: dict[str, Any], pointer: str) -> None:
    body = {key: value for key, value in BODY.items() if key != "component_type"}
    answer = await user.post("/api/worker/pool/register", {**body, **change})
    assert answer.status in (400, 422)
    assert answer.json["errors"][0]["pointer"] == pointer


async def test_a_worker_registers_with_its_calls_and_a_failure_of_the_registry_is_none_of_a_call(
    user: Client, database: Database
) -> None:
    worker = user.of("worker")
    instance = {"kind": "worker_pool", "name": "w-1", "status": "busy", "pool": "io", "running": 2}
    assert (await worker.post("/api/commands/claim", {"worker_id": "w-1", "instance": instance})).status == 200
    [entry] = await entries(user)
    assert (entry["name"], entry["state"], entry["running"]) == ("w-1", "busy", 2)
    heartbeat = {"worker_id": "w-1", "commands": [], "instance": {**instance, "status": "idle"}}
    assert (await worker.post("/api/commands/heartbeat", heartbeat)).json == {"lost": []}
    assert [entry["state"] for entry in await entries(user)] == ["idle"]
    await database.run("ALTER TABLE noetl.runtime RENAME TO elsewhere")
    assert (await worker.post("/api/commands/claim", {"worker_id": "w-1", "instance": instance})).status == 200
