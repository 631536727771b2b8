"""A worker that claims what is not its own: its word is refused, and every row stays as it was."""

from __future__ import annotations

from typing import Any

from .conftest import Client, FakeWorker, Rows, Snapshot

PARENT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parent, path: demo/parent}
workflow: [{step: call, tool: [{name: a, kind: playbook, path: demo/two}, {name: b, kind: noop}]}]
"""
LOOP = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loop, path: demo/loop}
workflow:
  - step: each
    loop: {in: [1, 2], iterator: n, spec: {mode: sequential}}
    tool: {kind: python, code: "result = n"}
"""


STATUSES = ("done", "error", "released", "deferred", "parked")


async def start(user: Client, path: str = "demo/two") -> str:
    return str((await user.post("/api/execute", {"path": path})).json["execution_id"])


async def tell(worker: Client, command: dict[str, Any], who: str = "w-1", **outcome: Any) -> dict[str, Any]:
    """What became of one reported outcome."""
    named = {key: command[key] for key in ("execution_id", "command_id", "fence")}
    body = {"worker_id": who, "outcomes": [{"status": "done", "data": {"stolen": True}, **named, **outcome}]}
    answer = await worker.post("/api/commands/report", body)
    assert answer.status == 200, answer.body
    [result] = answer.json["results"]
    assert answer.json["commands"] == []
    return dict(result)


def without_leases(rows: Rows) -> Rows:
    return {
        **rows,
        "command": [{name: value for name, value in row.items() if name != "lease_until"} for row in rows["command"]],
    }


async def test_a_guessed_fence_changes_nothing(worker: Client, hands: FakeWorker, started: str, rows: Snapshot) -> None:
    [command] = await hands.claim()
    before = await rows()
    more: dict[str, Any] = {"delay": 0, "child": {"path": "demo/two"}}
    for shift in (-1, 1, 1000, 2**62):
        for status in STATUSES:
            forged = {**command, "fence": command["fence"] + shift}
            assert (await tell(worker, forged, status=status, **more))["status"] == "stale"
    for fence in (-1, -(2**62), 2**63):
        outcome = {key: command[key] for key in ("execution_id", "command_id")} | {"fence": fence, "status": "done"}
        answer = await worker.post("/api/commands/report", {"worker_id": "w-1", "outcomes": [outcome]})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "/outcomes/0/fence")
    assert await rows() == before


async def test_what_nobody_has_claimed_cannot_be_reported(worker: Client, started: str, rows: Snapshot) -> None:
    before = await rows()
    pending = {"execution_id": started, "command_id": "first#1", "fence": 0}
    assert before["command"][0]["command_id"] == pending["command_id"]
    more: dict[str, Any] = {"delay": 0, "child": {"path": "demo/two"}}
    for status in STATUSES:
        assert (await tell(worker, pending, status=status, **more))["status"] == "stale"
    assert await rows() == before


async def test_the_fence_of_one_execution_opens_no_other(
    user: Client, worker: Client, hands: FakeWorker, registered: dict[str, Any], rows: Snapshot
) -> None:
    for _ in range(2):
        await start(user)
    one, other = await hands.claim()
    before = await rows()
    assert one["command_id"] == other["command_id"]
    assert (await tell(worker, {**one, "fence": other["fence"]}))["status"] == "stale"
    assert (await tell(worker, {**one, "execution_id": "9" * 18}))["status"] == "stale"
    assert (await tell(worker, {**one, "command_id": "second#1"}))["status"] == "stale"
    assert await rows() == before


async def test_another_worker_s_command_is_not_one_s_own_even_with_its_fence(
    worker: Client, hands: FakeWorker, started: str, rows: Snapshot
) -> None:
    [command] = await hands.claim()
    before = await rows()
    for status in STATUSES:
        more: dict[str, Any] = {"delay": 0, "child": {"path": "demo/two"}}
        assert (await tell(worker, command, who="w-2", status=status, **more))["status"] == "stale"
    body = {"worker_id": "w-2", "commands": [{key: command[key] for key in ("execution_id", "command_id", "fence")}]}
    assert len((await worker.post("/api/commands/heartbeat", body)).json["lost"]) == 1
    assert (await worker.post("/api/commands/claim", {"worker_id": "w-2", "recover": True})).json["commands"] == []
    assert await rows() == before


async def test_a_fence_counts_until_the_command_is_given_to_another(
    worker: Client, hands: FakeWorker, started: str, rows: Snapshot
) -> None:
    [command] = await hands.claim()
    assert (await tell(worker, command, status="released"))["status"] == "accepted"
    answer = await worker.post("/api/commands/claim", {"worker_id": "w-2"})
    assert len(answer.json["commands"]) == 1
    before = await rows()
    assert (await tell(worker, command))["status"] == "stale"
    assert await rows() == before


async def test_a_report_is_taken_once(worker: Client, hands: FakeWorker, started: str, rows: Snapshot) -> None:
    [command] = await hands.claim()
    assert (await tell(worker, command))["status"] == "accepted"
    before = await rows()
    assert (await tell(worker, command, data={"other": 1}))["status"] == "stale"
    assert await rows() == before


async def test_a_forged_order_does_not_get_a_command_into_the_log(
    worker: Client, hands: FakeWorker, started: str, rows: Snapshot
) -> None:
    """Run ahead, an outcome needs no fence of its own: only if it follows, as it was issued, from one that has it."""
    [command] = await hands.claim()
    before = await rows()
    speculative = {"order": "0" * 64}
    assert (await tell(worker, command, **speculative))["status"] == "stale"
    assert (await tell(worker, {**command, "command_id": "second#1"}, **speculative))["status"] == "stale"
    assert await rows() == before


async def test_a_forged_outcome_beside_a_good_one_is_refused_alone(
    user: Client, worker: Client, hands: FakeWorker, registered: dict[str, Any]
) -> None:
    good, bad = await start(user), await start(user)
    commands = {command["execution_id"]: command for command in await hands.claim()}
    outcomes = [
        {"execution_id": id, "command_id": commands[id]["command_id"], "fence": fence, "status": "done", "data": 1}
        for id, fence in ((good, commands[good]["fence"]), (bad, commands[bad]["fence"] + 7))
    ]
    answer = await worker.post("/api/commands/report", {"worker_id": "w-1", "outcomes": outcomes})
    assert [result["status"] for result in answer.json["results"]] == ["accepted", "stale"]
    assert (await user.get(f"/api/executions/{good}/status")).json["completed_steps"] == ["first"]
    assert (await user.get(f"/api/executions/{bad}/status")).json["completed_steps"] == []


def reference(execution_id: str, key: str, **more: Any) -> dict[str, Any]:
    uri = f"noetl://execution/{execution_id}/result/first/00000000"
    meta = {"bytes": 2, "sha256": "0" * 64, "created_at": "2026-01-01T00:00:00Z"}
    return {"kind": "result_ref", "ref": uri, "store": "disk", "key": key, "meta": meta, **more}


def forged(own: str, other: str) -> list[dict[str, Any]]:
    """What an execution must not refer to."""
    return [
        reference(other, f"{other}/first/0.json"),
        reference(own, f"{other}/first/0.json"),
        reference(own, f"{own}/../{other}/first/0.json"),
        reference(own, "archive/log/x.jsonl.gz", expires_at="2020-01-01T00:00:00Z"),
        {"key": f"{own}/first/0.json"},
        reference(own, f"{own}/first/0.json", expires_at="soon"),
        reference(own, f"{own}/first/0.json", extracted={"x": "y" * 70_000}),
    ]


async def test_a_reference_to_what_is_not_the_execution_s_own_is_an_error_of_the_step(
    user: Client, worker: Client, hands: FakeWorker, started: str, rows: Snapshot
) -> None:
    """Such a reference could be read through our execution, and would be deleted when its time is over."""
    await hands.claim()
    before = (await rows())["execution"]
    for number in range(len(forged("", ""))):
        own = await start(user)
        [command] = await hands.claim()
        ref = forged(own, started)[number]
        assert (await tell(worker, command, ref=ref, data=None))["status"] == "refused"
        assert (await user.get(f"/api/executions/{own}")).json["error"]["code"] == "outcome.refused"
        assert (await user.get(f"/api/results/data/{own}", key=ref["key"])).status == 404
    after = await rows()
    assert after["result_ref"] == []
    assert [row for row in after["execution"] if str(row["execution_id"]) == started] == before


async def test_a_sub_playbook_s_result_may_be_its_parent_s_but_not_the_other_way_round(
    user: Client, worker: Client, hands: FakeWorker, registered: dict[str, Any], rows: Snapshot
) -> None:
    await user.post("/api/catalog/register", {"content": PARENT})
    parent = await start(user, "demo/parent")
    [call] = await hands.claim()
    park: dict[str, Any] = {"status": "parked", "data": None, "child": {"path": "demo/two"}, "resume": {}}
    await tell(worker, call, **park)
    [first] = await hands.claim()
    up = reference(parent, f"{parent}/call/0.json")
    assert (await tell(worker, first, ref=up, data=None))["status"] == "refused"
    assert (await rows())["result_ref"] == []

    other = await start(user, "demo/parent")
    [call] = [command for command in await hands.claim() if command["execution_id"] == other]
    await tell(worker, call, **park)
    [first] = await hands.claim()
    down = reference(first["execution_id"], f"{first['execution_id']}/first/0.json")
    [second] = (await hands.report(first, data=1))["commands"]
    await hands.report(second, data=1)
    [call] = [command for command in await hands.claim() if command["execution_id"] == other]
    assert (await tell(worker, call, ref=down, data=None))["status"] == "accepted"
    assert [(row["execution_id"], row["key"]) for row in (await rows())["result_ref"]] == [(int(other), down["key"])]


FRAMES: list[dict[str, Any]] = [
    {"start": 0, "end": 9, "ok": 9, "failed": 0},
    {"start": 1, "end": 2, "ok": 1, "failed": 0},
    {"start": 0, "end": 1, "ok": 5, "failed": -4},
    {"start": 0, "end": -1, "ok": 0, "failed": 0},
    {"start": 0, "end": 1, "ok": 0, "failed": 1, "errors": {"x": {}}},
    {"start": 0, "end": 1, "ok": 0, "failed": 1, "errors": {"7": {"kind": 1}}},
]


async def test_a_frame_that_does_not_add_up_is_refused(user: Client, worker: Client, hands: FakeWorker) -> None:
    await user.post("/api/catalog/register", {"content": LOOP})
    for frame in FRAMES:
        looping = await start(user, "demo/loop")
        command = (await hands.claim())[-1]
        named = {key: command[key] for key in ("execution_id", "command_id", "fence")}
        body = {"worker_id": "w-1", "outcomes": [{**named, "status": "done", "data": [1], "frame": frame}]}
        answer = await worker.post("/api/commands/report", body)
        assert answer.status == 400 or [result["status"] for result in answer.json["results"]] == ["refused"]
        assert (await user.get("/api/replay/validate", execution_id=looping)).json["differences"] == []
