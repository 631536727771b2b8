"""Queued, running, delayed and parked are told apart, and attempts that failed are told, of steps and of loop items."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.store.database import Database

TEXT = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\nworkflow:\n{workflow}"
LOOP = """\
  - step: each
    loop: {in: [1, 2, 3, 4], iterator: n, spec: {mode: parallel, max_in_flight: 2}}
    tool: {kind: noop}
"""
CALL = "  - step: call\n    tool: {kind: playbook, path: demo/two}\n"
JOIN = """\
  - step: split
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
  - {step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}
  - {step: right, tool: {kind: noop}, next: {arcs: [{step: join}]}}
  - {step: join, tool: {kind: noop}}
"""


async def start(user: Client, workflow: str, path: str = "demo/t") -> str:
    text = TEXT.format(path=path, workflow=workflow)
    assert (await user.post("/api/catalog/register", {"content": text})).status == 200
    return str((await user.post("/api/execute", {"path": path})).json["execution_id"])


async def under_way(user: Client, execution_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await user.get(f"/api/executions/{execution_id}/status")).json["under_way"]
    return found


async def test_a_step_is_queued_then_running_then_delayed_then_queued_again(
    user: Client, hands: FakeWorker, started: str, database: Database
) -> None:
    [step] = await under_way(user, started)
    assert (step["step"], step["status"], step["queued"], step["worker"]) == ("first", "queued", 1, None)
    assert step["queued_since"] is not None and step["running_since"] is None

    await database.run("UPDATE noetl.command SET issued_at = issued_at - interval '7 seconds'")
    [command] = await hands.claim()
    [step] = await under_way(user, started)
    assert (step["status"], step["queued"], step["running"], step["worker"]) == ("running", 0, 1, "w-1")
    assert step["queued_since"] is None and step["running_since"] is not None
    assert 7000 <= step["queued_ms"] < 60_000
    assert step["deliveries"] == 1

    await hands.report(command, status="deferred", delay=60.0, resume={"task": "first", "attempt": 2})
    [step] = await under_way(user, started)
    assert (step["status"], step["delayed"], step["queued"], step["running"]) == ("delayed", 1, 0, 0)
    due = datetime.fromisoformat(step["due_at"])
    assert timedelta(seconds=30) < due - datetime.now(UTC) <= timedelta(seconds=60)


async def test_a_step_that_waits_for_its_sub_playbook_is_parked(
    user: Client, hands: FakeWorker, registered: dict[str, Any]
) -> None:
    parent = await start(user, CALL)
    [command] = await hands.claim()
    await hands.report(command, status="parked", child={"path": "demo/two", "payload": {}})
    [step] = await under_way(user, parent)
    assert (step["status"], step["parked"]) == ("parked", 1)
    [child] = step["children"]
    # who parked it has room for it
    assert [step["status"] for step in await under_way(user, child)] == ["running"]


async def test_the_time_limit_of_a_step_is_no_delay(
    user: Client, hands: FakeWorker, registered: dict[str, Any]
) -> None:
    parent = await start(user, f"{CALL}    spec: {{policy: {{lifecycle: {{timeout: 60}}}}}}\n")
    [step] = await under_way(user, parent)
    assert (step["status"], step["queued"], step["delayed"], step["due_at"]) == ("queued", 1, 0, None)
    [command] = await hands.claim()
    await hands.report(command, status="parked", child={"path": "demo/two", "payload": {}})
    [step] = await under_way(user, parent)
    assert (step["status"], step["delayed"], step["due_at"]) == ("parked", 0, None)


async def test_a_loop_shows_how_many_of_its_frames_wait_and_run(user: Client, hands: FakeWorker) -> None:
    execution_id = await start(user, LOOP)
    [step] = await under_way(user, execution_id)
    assert (step["status"], step["queued"], step["running"]) == ("queued", 2, 0)
    answer = await hands.client.post("/api/commands/claim", {"worker_id": "w-1", "limit": 1})
    assert len(answer.json["commands"]) == 1
    [step] = await under_way(user, execution_id)
    assert (step["status"], step["queued"], step["running"]) == ("running", 1, 1)


async def test_a_join_waits(user: Client, hands: FakeWorker) -> None:
    execution_id = await start(user, JOIN)
    [command] = await hands.claim()
    following = (await hands.report(command, data=1))["commands"]
    await hands.report(next(command for command in following if command["step"] == "left"), data=1)
    statuses = {step["step"]: step["status"] for step in await under_way(user, execution_id)}
    assert statuses == {"right": "running", "join": "waiting"}


async def test_of_what_has_ended_nothing_is_under_way(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    assert await under_way(user, started) == []


def meta(attempts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC) + timedelta(seconds=2)
    return {
        "started_at": now.isoformat(timespec="milliseconds"),
        "ended_at": (now + timedelta(seconds=3)).isoformat(timespec="milliseconds"),
        "duration_ms": 1200.5,
        "waited_ms": 1799.5,
        "attempts": attempts,
        **more,
    }


def attempt(number: int, **more: Any) -> dict[str, Any]:
    error = {"kind": "http", "code": "http.status", "message": f"try {number}"}
    times = {"started_at": 1_700_000_000_000 + number, "ended_at": 1_700_000_000_500 + number}
    return {"attempt": number, "task": "first", "error": error, **times, "worker": "w-1", **more}


async def test_the_failed_attempts_of_a_step_are_shown_with_its_times(
    user: Client, hands: FakeWorker, started: str
) -> None:
    [command] = await hands.claim()
    lost = [{"worker": "w-0", "delivery": 1, "claimed_at": 1_700_000_000_000, "lease_until": 1_700_000_030_000}]
    await hands.report(command, data=1, meta=meta([attempt(1), attempt(2)], attempts_dropped=5, lost=lost))
    [run] = (await user.get(f"/api/executions/{started}/runs")).json["items"]
    assert (run["step"], run["command_id"], run["event_type"]) == ("first", "first#1", "call.done")
    assert (run["run_ms"], run["waited_ms"], run["worker"]) == (1200.5, 1799.5, "w-1")
    assert 1000 < run["queued_ms"] < 60_000
    assert [(entry["attempt"], entry["error"]["message"], entry["worker"]) for entry in run["attempts"]] == [
        (1, "try 1", "w-1"),
        (2, "try 2", "w-1"),
    ]
    assert run["attempts"][0]["started_at"] == "2023-11-14T22:13:20.001000Z"
    assert run["attempts"][0]["ended_at"] == "2023-11-14T22:13:20.501000Z"
    assert run["attempts_dropped"] == 5
    assert [(entry["worker"], entry["delivery"]) for entry in run["lost"]] == [("w-0", 1)]


async def test_the_failed_attempts_of_loop_items_are_shown_with_their_index(user: Client, hands: FakeWorker) -> None:
    execution_id = await start(user, LOOP)
    while frames := await hands.claim():
        for frame in frames:
            start_, end = frame["frame"]["start"], frame["frame"]["end"]
            outcome = {"start": start_, "end": end, "ok": end - start_, "failed": 0}
            details = meta([attempt(1, index=start_)]) if start_ == 0 else {}
            named = {key: frame[key] for key in ("execution_id", "command_id", "fence")}
            body = {**named, "status": "done", "data": [0] * (end - start_), "frame": outcome, "meta": details}
            answer = await hands.client.post("/api/commands/report", {"worker_id": "w-1", "outcomes": [body]})
            assert answer.status == 200, answer.body
    every = (await user.get(f"/api/executions/{execution_id}/runs", step="each")).json["items"]
    [run] = (await user.get(f"/api/executions/{execution_id}/runs", failed="true")).json["items"]
    assert len(every) > 1
    assert (run["step"], run["event_type"], run["first_item"]) == ("each", "frame.committed", 0)
    assert [entry["index"] for entry in run["attempts"]] == [0]


async def test_runs_are_paged(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    first = await user.get(f"/api/executions/{started}/runs", limit=1)
    [run] = first.json["items"]
    assert first.json["next"] == run["seq"]
    assert first.headers["link"] == f'<?limit=1&after={run["seq"]}>; rel="next"'
    second = await user.get(f"/api/executions/{started}/runs", after=run["seq"])
    assert [run["step"] for run in second.json["items"]] == ["second"]
    assert "link" not in second.headers
    assert (await user.get("/api/executions/1/runs")).status == 404


@pytest.mark.parametrize("query", [{"step": "second"}, {"failed": "true"}])
async def test_runs_are_filtered(user: Client, hands: FakeWorker, started: str, query: dict[str, str]) -> None:
    await hands.finish()
    found = (await user.get(f"/api/executions/{started}/runs", **query)).json["items"]
    assert [run["step"] for run in found] == (["second"] if "step" in query else [])
