from __future__ import annotations

from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client

pytestmark = pytest.mark.usefixtures("registered")

BODY = {"name": "daily", "playbook_path": "demo/two", "cron": "30 6 * * *", "timezone": "Europe/Berlin"}


async def test_a_schedule_lives_from_creation_to_deletion(user: Client) -> None:
    made = await user.post("/api/schedules", {**BODY, "payload": {"z": 1}})
    assert made.status == 201
    assert (made.json["enabled"], made.json["missed_policy"]) == (True, "fire_once")
    assert made.json["next_run_at"].endswith(("T04:30:00Z", "T05:30:00Z"))
    [listed] = (await user.get("/api/schedules", path="demo/two")).json["items"]
    assert listed == made.json
    for name in ("daily", made.json["schedule_id"]):
        assert (await user.get(f"/api/schedules/{name}")).json == {**made.json, "runs": []}
    off = (await user.post("/api/schedules/daily/disable")).json
    assert (off["enabled"], off["next_run_at"]) == (False, None)
    assert (await user.get("/api/schedules", enabled="true")).json["items"] == []
    on = (await user.post("/api/schedules/daily/enable")).json
    assert (on["enabled"], on["next_run_at"]) == (True, made.json["next_run_at"])
    gone = (await user.delete("/api/schedules/daily")).json
    assert gone == {"status": "deleted", "schedule_id": made.json["schedule_id"], "name": "daily"}
    assert (await user.get("/api/schedules/daily")).status == 404


async def test_a_trigger_runs_the_playbook_now(user: Client) -> None:
    made = (await user.post("/api/schedules", {**BODY, "input_payload": {"z": 1, "a": {"b": 9}}})).json
    answer = await user.post("/api/schedules/daily/trigger", {"payload": {"z": 2}})
    execution_id = answer.json["execution_id"]
    event = (await user.get(f"/api/executions/{execution_id}/events", limit=1)).json[0]
    assert event["payload"]["workload"] == {"a": {"b": 9, "c": 2}, "z": 2}
    shown = (await user.get("/api/schedules/daily")).json
    assert (shown["last_execution_id"], shown["last_status"]) == (execution_id, "started")
    assert shown["next_run_at"] == made["next_run_at"]


async def test_a_schedule_of_what_is_not_there_is_refused(user: Client) -> None:
    assert (await user.post("/api/schedules", {**BODY, "playbook_path": "nowhere"})).status == 404
    assert (await user.post("/api/schedules", {**BODY, "playbook_version": 7})).status == 404


async def test_a_name_is_taken_once(user: Client) -> None:
    await user.post("/api/schedules", BODY)
    again = await user.post("/api/schedules", BODY)
    assert (again.status, again.json["code"]) == (409, "resource.conflict")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cron": "nonsense"},
        {"cron": None},
        {"interval_seconds": 5},
        {"timezone": "Nowhere/Land"},
        {"missed_policy": "all"},
        {"name": "12345"},
        {"name": "a/b"},
        {"surprise": 1},
    ],
)
async def test_what_cannot_run_is_refused(user: Client, wrong: dict[str, Any]) -> None:
    answer = await user.post("/api/schedules", {**BODY, **wrong})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


async def test_what_is_not_there_is_not_found(user: Client) -> None:
    for verb in ("enable", "disable", "trigger"):
        assert (await user.post(f"/api/schedules/nothing/{verb}")).status == 404
    assert (await user.delete("/api/schedules/nothing")).status == 404
