from __future__ import annotations

from datetime import datetime, timedelta
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


@pytest.mark.parametrize("payload", [{"a\0": 1}, {"a": "\0"}, {"a": {"b": [{"c\0": 1}]}}])
async def test_an_input_that_cannot_be_stored_is_refused_when_it_is_given(
    user: Client, payload: dict[str, Any]
) -> None:
    refused = await user.post("/api/schedules", {**BODY, "input_payload": payload})
    assert refused.status == 400 and "NUL" in refused.json["detail"], refused.body
    assert (await user.post("/api/schedules", BODY)).status == 201
    assert (await user.post("/api/schedules/daily", {"input_payload": payload})).status == 400
    assert (await user.get("/api/schedules/daily")).json["input_payload"] == {}


async def test_an_input_that_does_not_fit_is_refused_when_it_is_given(user: Client) -> None:
    text = (
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: w, path: demo/whole}\nworkload: {w: 1}\n"
        "schemas: {input: {type: object, properties: {w: {type: integer}}}}\n"
        "workflow: [{step: a, tool: {kind: noop}}]\n"
    )
    assert (await user.post("/api/catalog/register", {"content": text})).status == 200
    body = {"name": "whole", "playbook_path": "demo/whole", "interval_seconds": 3600}
    refused = await user.post("/api/schedules", {**body, "input_payload": {"w": "abc"}})
    assert (refused.status, refused.json["code"]) == (422, "input.invalid"), refused.body
    assert (await user.post("/api/schedules", {**body, "input_payload": {"w": 2}})).status in (200, 201)
    assert (await user.post("/api/schedules/whole", {"input_payload": {"w": "abc"}})).status == 422
    assert (await user.post("/api/schedules/whole", {"input_payload": {"w": 3}})).status == 200


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
        {"overlap_policy": "sometimes"},
        {"cron": None, "interval_seconds": 60, "jitter_seconds": 60},
        {"start_at": "2026-05-01", "end_at": "2026-05-01"},
        {"start_at": "9999-05-01"},
    ],
)
async def test_what_cannot_run_is_refused(user: Client, wrong: dict[str, Any]) -> None:
    answer = await user.post("/api/schedules", {**BODY, **wrong})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


async def test_what_is_not_there_is_not_found(user: Client) -> None:
    for verb in ("enable", "disable", "trigger"):
        assert (await user.post(f"/api/schedules/nothing/{verb}")).status == 404
    assert (await user.delete("/api/schedules/nothing")).status == 404


async def test_the_policies_of_a_schedule_are_kept_and_shown(user: Client) -> None:
    policies = {
        "overlap_policy": "queue",
        "jitter_seconds": 30,
        "start_at": "2026-05-01",
        "end_at": "2199-05-01T00:00Z",
    }
    made = (await user.post("/api/schedules", {**BODY, **policies})).json
    # in the time zone of the schedule
    shown = {**policies, "start_at": "2026-04-30T22:00:00Z", "end_at": "2199-05-01T00:00:00Z"}
    assert {name: made[name] for name in shown} == shown
    assert (await user.get("/api/schedules/daily")).json == {**made, "runs": []}


async def test_an_update_changes_what_it_names_and_when_it_is_due_next(user: Client) -> None:
    made = (await user.post("/api/schedules", {**BODY, "payload": {"z": 1}})).json
    renewed = (await user.post("/api/schedules/daily", {"payload": {"z": 2}, "overlap_policy": "skip"})).json
    changed = {"input_payload": {"z": 2}, "overlap_policy": "skip", "updated_at": renewed["updated_at"]}
    assert renewed == {**made, **changed}
    hourly = (await user.post("/api/schedules/daily", {"interval_seconds": 3600})).json
    due = datetime.fromisoformat(hourly["next_run_at"]) - datetime.fromisoformat(hourly["updated_at"])
    assert (hourly["cron"], hourly["interval_seconds"]) == (None, 3600)
    assert timedelta(0) < due <= timedelta(hours=1)
    moved = (await user.post("/api/schedules/daily", {"cron": "0 12 * * *", "timezone": "Asia/Tokyo"})).json
    assert (moved["interval_seconds"], moved["next_run_at"][10:]) == (None, "T03:00:00Z")
    ended = (await user.post("/api/schedules/daily", {"end_at": "2020-01-01"})).json
    assert (ended["enabled"], ended["next_run_at"]) == (True, None)
    assert (await user.post("/api/schedules/daily", {"end_at": None})).json["next_run_at"] == moved["next_run_at"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"cron": "nonsense"}, 400),
        ({"cron": None}, 400),
        ({"timezone": None}, 400),
        ({"timezone": "Nowhere/Land"}, 400),
        ({"cron": "0 * * * *", "interval_seconds": 5}, 400),
        ({"interval_seconds": 60, "jitter_seconds": 60}, 400),
        ({"name": "other"}, 400),
        ({"playbook_path": "nowhere"}, 404),
        ({"playbook_version": 7}, 404),
    ],
)
async def test_an_update_to_what_cannot_run_is_refused_and_changes_nothing(
    user: Client, wrong: dict[str, Any], status: int
) -> None:
    made = (await user.post("/api/schedules", BODY)).json
    assert (await user.post("/api/schedules/daily", wrong)).status == status
    assert (await user.get("/api/schedules/daily")).json == {**made, "runs": []}


async def test_a_path_from_the_root_is_the_path_in_the_catalog(user: Client) -> None:
    made = await user.post("/api/schedules", {**BODY, "playbook_path": "/demo/two"})
    assert (made.status, made.json["playbook_path"]) == (201, "demo/two")
    assert (await user.post("/api/schedules/daily", {"path": "/demo/two"})).json["playbook_path"] == "demo/two"
    assert len((await user.get("/api/schedules", path="/demo/two")).json["items"]) == 1
    assert (await user.post("/api/schedules/daily/trigger")).status == 200


async def test_the_next_due_times_are_listed_without_starting_anything(user: Client) -> None:
    await user.post("/api/schedules", {**BODY, "jitter_seconds": 600})
    after = "2025-03-29T07:00"
    found = (await user.get("/api/schedules/daily/next", after=after, count=2)).json["items"]
    assert [each["due_at"] for each in found] == ["2025-03-30T04:30:00Z", "2025-03-31T04:30:00Z"]
    for each in found:
        late = datetime.fromisoformat(each["start_at"]) - datetime.fromisoformat(each["due_at"])
        assert timedelta(0) <= late <= timedelta(minutes=10)
    assert (await user.get("/api/schedules/daily/next", after=after, count=2)).json["items"] == found
    assert (await user.get("/api/schedules/daily/next", after="9999-12-31")).status == 400
    assert (await user.get("/api/schedules/daily/runs")).json == {"items": [], "next": None}


async def test_a_backfill_inserts_the_runs_of_a_range_once(user: Client) -> None:
    await user.post("/api/schedules", BODY)
    body = {"from": "2025-05-01", "to": "2025-05-03T06:30"}
    dry = (await user.post("/api/schedules/daily/backfill", {**body, "dry_run": True})).json
    assert (dry["new"], [run["due_at"] for run in dry["runs"]]) == (2, ["2025-05-01T04:30:00Z", "2025-05-02T04:30:00Z"])
    assert (await user.get("/api/schedules/daily/runs")).json["items"] == []
    first, again = [(await user.post("/api/schedules/daily/backfill", body)).json for _ in range(2)]
    assert first == {**dry, "dry_run": False}
    assert (again["new"], [run["is_new"] for run in again["runs"]]) == (0, [False, False])
    assert (await user.post("/api/schedules/daily/backfill", {**body, "dry_run": True})).json["new"] == 0
    page = (await user.get("/api/schedules/daily/runs", limit=1, backfill="true")).json
    [run] = page["items"]
    assert (run["due_at"], run["status"], run["backfill"]) == ("2025-05-02T04:30:00Z", "open", True)
    assert page["next"] == run["due_at"]
    [other] = (await user.get("/api/schedules/daily/runs", limit=1, before=page["next"])).json["items"]
    assert other["due_at"] == "2025-05-01T04:30:00Z"
    assert (await user.get("/api/schedules/daily/runs", backfill="false")).json["items"] == []
    off = await user.post("/api/schedules/daily/disable")
    assert off.status == 200
    skipped = (await user.get("/api/schedules/daily/runs", status="skipped")).json["items"]
    assert [run["reason"] for run in skipped] == ["the schedule was disabled"] * 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_runs": 30}, "more than 30 runs"),
        ({"max_runs": 1001}, "1000"),
        ({"to": "2025-05-01"}, "from must be before to"),
        ({"to": "2199-01-01"}, "for the past"),
        ({"from": "0001-01-01"}, "from 1970"),
    ],
)
async def test_a_backfill_beyond_its_bounds_is_refused(user: Client, wrong: dict[str, Any], said: str) -> None:
    await user.post("/api/schedules", BODY)
    answer = await user.post("/api/schedules/daily/backfill", {"from": "2025-05-01", "to": "2025-06-01", **wrong})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert said in answer.body.decode()
    assert (await user.get("/api/schedules/daily/runs")).json["items"] == []
