from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl

from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.control_plane.watchers import Watchers
from noetl_serverless.store.database import Database


async def test_starting_answers_with_the_id_and_the_commands(user: Client, registered: dict[str, Any]) -> None:
    for body in ({"path": "demo/two", "version": 1}, {"catalog_id": registered["catalog_id"]}):
        answer = await user.post("/api/execute", body)
        assert answer.json.keys() == {"execution_id", "status", "commands_generated", "result", "error"}
        assert (answer.json["status"], answer.json["commands_generated"]) == ("started", 1)
        assert isinstance(answer.json["execution_id"], str)


async def test_an_idempotency_key_starts_one_execution(user: Client, registered: dict[str, Any]) -> None:
    bodies = [(await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k")).json for _ in range(2)]
    assert bodies[0]["execution_id"] == bodies[1]["execution_id"]
    assert len((await user.get("/api/executions")).json) == 1
    other = await user.post("/api/execute", {"path": "demo/two", "payload": {"x": 1}}, idempotency_key="k")
    assert other.status == 409
    assert (await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k" * 256)).status == 400


async def test_starting_at_once_under_one_key_starts_one(user: Client, registered: dict[str, Any]) -> None:
    answers = await asyncio.gather(
        *(user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k") for _ in range(5))
    )
    assert len({answer.json["execution_id"] for answer in answers}) == 1


async def test_what_is_not_registered_is_not_started(user: Client) -> None:
    answer = await user.post("/api/execute", {"path": "nowhere"})
    assert (answer.status, answer.json["code"]) == (404, "resource.not_found")
    assert (await user.post("/api/execute", {})).status == 400


async def test_a_run_shows_from_start_to_end(user: Client, hands: FakeWorker, started: str) -> None:
    status = (await user.get(f"/api/executions/{started}/status")).json
    assert (status["status"], status["current_step"], status["completed_steps"]) == ("RUNNING", "first", [])
    [command] = await hands.claim()
    assert command["step"] == "first"
    [following] = (await hands.report(command, data=41))["commands"]
    status = (await user.get(f"/api/executions/{started}/status")).json
    assert (status["current_step"], status["completed_steps"]) == ("second", ["first"])
    assert status["variables"] == {"seen": 41}
    assert (await user.get(f"/api/executions/{started}")).json["progress"] == 50
    await hands.report(following, data={"x": 1})
    [entry] = (await user.get("/api/executions")).json
    assert (entry["execution_id"], entry["status"], entry["progress"]) == (started, "COMPLETED", 100)
    assert entry["result"] == {"data": {"x": 1}}
    assert entry["duration_seconds"] >= 0
    status = (await user.get(f"/api/executions/{started}/status")).json
    assert (status["completed"], status["failed"], status["current_steps"]) == (True, False, [])


async def test_a_failed_run_shows_its_error(user: Client, hands: FakeWorker, started: str) -> None:
    [command] = await hands.claim()
    error = {"kind": "python", "code": "boom", "message": "it broke", "retryable": False}
    await hands.report(command, status="error", error=error)
    entry = (await user.get(f"/api/executions/{started}")).json
    assert (entry["status"], entry["error"]["code"]) == ("FAILED", "boom")
    assert (await user.get(f"/api/executions/{started}/status")).json["failed"]


async def test_lists_are_paged_and_filtered(user: Client, hands: FakeWorker, registered: dict[str, Any]) -> None:
    ids = [(await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"] for _ in range(3)]
    # those of one millisecond are in no order
    ids.sort(key=int)
    first = await user.get("/api/executions", page_size=2)
    assert [entry["execution_id"] for entry in first.json] == [ids[2], ids[1]]
    assert first.headers.get("link") == f'<?page_size=2&before={ids[1]}>; rel="next"'
    for query in ({"before": ids[1]}, {"page": 2}):
        second = await user.get("/api/executions", page_size=2, **query)
        assert [entry["execution_id"] for entry in second.json] == [ids[0]]
        assert "link" not in second.headers
    older = await user.get("/api/executions", before=ids[1])
    assert [entry["execution_id"] for entry in older.json] == [ids[0]]
    await user.post(f"/api/executions/{ids[0]}/cancel")
    cancelled = await user.get("/api/executions", status="CANCELLED", path="demo")
    assert [entry["execution_id"] for entry in cancelled.json] == [ids[0]]
    assert (await user.get("/api/executions", path="dem")).json == []
    assert (await user.get("/api/executions", status="ODD")).status == 400


async def test_a_path_with_a_slash_around_it_is_the_path(user: Client, started: str) -> None:
    for path in ("demo/", "/demo", "/demo/two/", "demo/two"):
        assert [entry["execution_id"] for entry in (await user.get("/api/executions", path=path)).json] == [started], (
            path
        )
        listed = (await user.post("/api/catalog/list", {"path": path})).json["entries"]
        assert [entry["path"] for entry in listed] == ["demo/two"], path
    for path in ("", "/"):
        answer = await user.get("/api/executions", path=path)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json"), path
        assert "give a path such as team/load" in str(answer.json), answer.json


async def test_a_time_that_ends_before_it_begins_is_refused(user: Client, started: str) -> None:
    for since, until in (("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"), ("2026-01-01T00:00:00Z",) * 2):
        answer = await user.get("/api/executions", since=since, until=until)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
        [fault] = answer.json["errors"]
        assert fault["message"] == "until must be later than since"


async def test_lists_are_narrowed_to_a_time_and_to_who_started_them(user: Client, registered: dict[str, Any]) -> None:
    started = []
    for name in ("ada", "ada", "eve", "ada"):
        user.headers["x-noetl-user"] = name
        started.append((await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
        await asyncio.sleep(0.003)
    begun = {entry["execution_id"]: entry["start_time"] for entry in (await user.get("/api/executions")).json}

    async def found(**query: Any) -> list[str]:
        return [entry["execution_id"] for entry in (await user.get("/api/executions", **query)).json]

    assert await found(since=begun[started[2]]) == [started[3], started[2]]
    assert await found(until=begun[started[2]]) == [started[1], started[0]]
    assert await found(principal="ada") == [started[3], started[1], started[0]]
    assert await found(principal="ada", principal_kind="schedule") == []
    query: dict[str, Any] = {"principal": "ada", "since": begun[started[0]], "page_size": 2}
    first = await user.get("/api/executions", **query)
    assert [entry["execution_id"] for entry in first.json] == [started[3], started[1]]
    onward = dict(parse_qsl(first.headers["link"].split("?")[1].split(">")[0]))
    assert onward == {**query, "page_size": "2", "before": started[1]}, "the next page is narrowed otherwise"
    second = await user.get("/api/executions", **onward)
    assert ([entry["execution_id"] for entry in second.json], "link" in second.headers) == ([started[0]], False)
    for wrong in ({"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"principal_kind": "user"}):
        assert (await user.get("/api/executions", **wrong)).status == 400, wrong


async def test_a_page_has_a_hundred_unless_it_is_asked_for_another(user: Client, registered: dict[str, Any]) -> None:
    await asyncio.gather(*(user.post("/api/execute", {"path": "demo/two"}) for _ in range(101)))
    first = await user.get("/api/executions")
    last = first.json[-1]["execution_id"]
    assert (len(first.json), first.headers["link"]) == (100, f'<?before={last}>; rel="next"')
    assert len((await user.get("/api/executions", before=last)).json) == 1


async def test_the_detail_has_a_page_of_events_the_newest_first(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    detail = (await user.get(f"/api/executions/{started}", page_size=2)).json
    seqs = [event["seq"] for event in detail["events"]]
    total = detail["pagination"]["total"]
    assert seqs == [total, total - 1]
    assert detail["pagination"]["has_next"]
    assert detail["events"][0]["event_type"] == "playbook.completed"
    without = (await user.get(f"/api/executions/{started}", include_events="false")).json
    assert (without["events"], without["pagination"], without["events_included"]) == ([], None, False)


async def test_events_come_in_order_after_a_position(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    every = await user.get(f"/api/executions/{started}/events")
    assert [event["seq"] for event in every.json] == list(range(1, len(every.json) + 1))
    assert every.headers["noetl-execution-status"] == "COMPLETED"
    assert every.headers["noetl-last-seq"] == str(len(every.json))
    first = every.json[0]
    assert (first["event_type"], first["event_id"], first["execution_id"]) == ("playbook.initialized", "1", started)
    some = await user.get(f"/api/executions/{started}/events", after=2, limit=1)
    assert [event["seq"] for event in some.json] == [3]
    for event in every.json:
        assert event["node_name"] == event["node_id"] == event["step"], event
        assert event["created_at"] == event["timestamp"], event
        assert event["parent_event_id"] == (None if event["cause"] is None else str(event["cause"])), event
    outcomes = {event["event_type"]: event["status"] for event in every.json}
    assert (outcomes["call.done"], outcomes["command.issued"]) == ("ok", None)


async def test_waiting_ends_when_something_happens(
    user: Client, hands: FakeWorker, started: str, watchers: Watchers, database: Database
) -> None:
    head = (await user.get(f"/api/executions/{started}/events")).json[-1]["seq"]
    waiting = asyncio.ensure_future(user.get(f"/api/executions/{started}/events", after=head, wait=60))
    while not watchers._waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    [command] = await hands.claim()
    await hands.report(command, data=1)
    found = await asyncio.wait_for(waiting, 10)
    assert "call.done" in [event["event_type"] for event in found.json]


async def test_waiting_ends_without_a_wake_up_too(
    user: Client, hands: FakeWorker, started: str, watchers: Watchers, monkeypatch: Any
) -> None:
    """As when another instance commits."""
    monkeypatch.setattr(watchers, "_waiting", {})
    monkeypatch.setattr(Watchers, "notify", lambda self, execution_id: None)
    head = (await user.get(f"/api/executions/{started}/events")).json[-1]["seq"]
    waiting = asyncio.ensure_future(user.get(f"/api/executions/{started}/events", after=head, wait=60))
    while not watchers._waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await user.post(f"/api/executions/{started}/cancel")
    found = await asyncio.wait_for(waiting, 30)
    assert [event["event_type"] for event in found.json] == ["execution.cancelled"]


async def test_waiting_for_what_has_ended_answers_at_once(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    last = (await user.get(f"/api/executions/{started}/events")).json[-1]["seq"]
    found = await asyncio.wait_for(user.get(f"/api/executions/{started}/events", after=last, wait=60), 10)
    assert (found.json, found.headers["noetl-execution-status"]) == ([], "COMPLETED")


async def test_waiting_is_bounded(user: Client, started: str) -> None:
    assert (await user.get(f"/api/executions/{started}/events", wait=61)).status == 400
    assert (await user.get(f"/api/executions/{started}/events", after=99, wait=0.05)).json == []


async def test_a_cancelled_run_is_cancelled_once(user: Client, hands: FakeWorker, started: str) -> None:
    answer = (await user.post(f"/api/executions/{started}/cancel", {"reason": "enough"})).json
    assert (answer["status"], answer["cancelled_executions"]) == ("cancelled", [started])
    again = (await user.post(f"/api/executions/{started}/cancel")).json
    assert (again["status"], again["cancelled_executions"]) == ("already_completed", [])
    status = (await user.get(f"/api/executions/{started}/status")).json
    ended = (status["status"], status["cancelled"], status["completed"], status["failed"])
    assert ended == ("CANCELLED", True, True, False), "who waits for completed or failed must not wait for ever"
    assert (await user.get(f"/api/executions/{started}")).json["status"] == "CANCELLED"
    assert await hands.claim() == []


async def test_running_again_takes_the_first_input_and_what_is_laid_over_it(
    user: Client, registered: dict[str, Any], playbook: str
) -> None:
    payload = {"a": {"b": 5}, "z": 1, "ctx": {"k": "v"}}
    first = (await user.post("/api/execute", {"path": "demo/two", "payload": payload})).json["execution_id"]
    await user.post("/api/catalog/register", {"content": playbook + "# newer\n"})
    answer = await user.post(f"/api/executions/{first}/rerun", {"payload": {"a": {"c": 7}}})
    second = answer.json["execution_id"]
    assert second != first
    event = (await user.get(f"/api/executions/{second}/events", limit=1)).json[0]
    assert event["payload"]["workload"] == {"a": {"b": 5, "c": 7}, "z": 1}
    assert event["payload"]["ctx"] == {"k": "v"}
    assert (await user.get(f"/api/executions/{second}")).json["version"] == 1


async def test_running_again_takes_the_body_of_the_original_s_client(user: Client, started: str) -> None:
    body = {"workload": {"a": {"c": 7}}, "resource_kind": "playbook"}
    second = (await user.post(f"/api/executions/{started}/rerun", body)).json["execution_id"]
    event = (await user.get(f"/api/executions/{second}/events", limit=1)).json[0]
    assert event["payload"]["workload"] == {"a": {"b": 1, "c": 7}}


async def test_what_is_not_there_is_not_found(user: Client) -> None:
    for path in ("1", "1/status", "1/events", "abc", "abc/events", "99999999999999999999"):
        answer = await user.get(f"/api/executions/{path}")
        assert (answer.status, answer.json["code"]) == (404, "resource.not_found"), path
    assert (await user.post("/api/executions/1/cancel")).status == 404
    assert (await user.post("/api/executions/1/rerun")).status == 404


async def test_a_key_answers_as_before_when_a_new_version_was_registered_meanwhile(
    user: Client, registered: dict[str, Any], playbook: str
) -> None:
    first = (await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k")).json
    newer = await user.post("/api/catalog/register", {"content": playbook + "  - {step: more, tool: {kind: noop}}\n"})
    assert newer.json["version"] == 2
    again = await user.post("/api/execute", {"path": "demo/two"}, idempotency_key="k")
    assert (again.status, again.json["execution_id"]) == (200, first["execution_id"])
    response = await user.post("/api/execute", {"path": "demo/two", "version": 2}, idempotency_key="k")
    assert response.status == 409, "that is another request: it names the version that did not run"


async def test_a_payload_that_cannot_be_stored_is_refused_with_its_place(
    user: Client, registered: dict[str, Any]
) -> None:
    for payload, pointer in (
        ({"deep": [{"n": 2**64}]}, "/payload/deep/0/n"),
        ({"text": "a\0b"}, "/payload/text"),
    ):
        body = json.dumps({"path": "demo/two", "payload": payload}).encode()
        answer = await user.call("POST", "/api/execute", body, headers={})
        assert answer.status == 400
        assert answer.json["errors"][0]["pointer"] == pointer
