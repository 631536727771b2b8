"""Lists of large rows: every page stays below what a function may answer, and all rows are seen, each once."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from tests.integration.control_plane.conftest import Client

from noetl_serverless.limits import ANSWER_BYTES, PAGE_BYTES
from noetl_serverless.protocol import WIRE
from noetl_serverless.store.database import Database

EVENTS = 30
# one of these is larger than a page
HUGE = 17


@pytest.fixture
async def large(user: Client, database: Database, started: str) -> str:
    """An execution whose log is much larger than an answer may be."""
    payload = orjson.dumps({"data": "x" * 900_000}).decode()
    huge = orjson.dumps({"data": "y" * (PAGE_BYTES + 1000)}).decode()
    await database.run(
        "INSERT INTO noetl.event (execution_id, seq, type, step, generation, at, payload) "
        "SELECT :id, n, 'call.done', 'first', 1, now(), CASE n WHEN :huge THEN CAST(:large AS json) "
        "ELSE CAST(:payload AS json) END FROM generate_series(3, CAST(:events AS integer)) n",
        id=int(started),
        huge=HUGE,
        large=huge,
        payload=payload,
        events=EVENTS,
    )
    await database.run("UPDATE noetl.execution SET head = :head WHERE execution_id = :id", head=EVENTS, id=int(started))
    return started


async def pages(user: Client, path: str, **query: Any) -> list[list[Any]]:
    """All pages of a list, by their links."""
    found: list[list[Any]] = []
    while True:
        answer = await user.get(path, **query)
        assert answer.status == 200, answer.body[:500]
        assert len(answer.body) < ANSWER_BYTES
        found.append(answer.json if isinstance(answer.json, list) else answer.json["items"])
        if "link" not in answer.headers:
            return found
        match = re.fullmatch(r'<\?([^>]*)>; rel="next"', answer.headers["link"])
        assert match is not None
        query = dict(parse_qsl(match[1]))


async def test_a_log_is_read_page_by_page(user: Client, large: str) -> None:
    found = await pages(user, f"/api/executions/{large}/events", limit=5000)
    assert [event["seq"] for page in found for event in page] == list(range(1, EVENTS + 1))
    assert len(found) > EVENTS * 900_000 // PAGE_BYTES
    cut = [event["seq"] for page in found for event in page if event["payload_bytes"] is not None]
    assert cut == [HUGE]


async def test_a_page_does_not_read_what_it_has_no_room_for(database: Database, large: str) -> None:
    statement = "SELECT count(*) FROM noetl.page(:id, 0, NULL, 5000, :bytes)"
    [[count]] = await database.run(statement, id=int(large), bytes=PAGE_BYTES)
    # two small ones, and those with which the page is full
    assert count == 2 + PAGE_BYTES // 900_000 + 1


async def test_of_one_type_too(user: Client, large: str) -> None:
    found = await pages(user, f"/api/executions/{large}/events", event_type="call.done")
    assert [event["seq"] for page in found for event in page] == list(range(3, EVENTS + 1))


async def test_a_payload_that_a_list_leaves_out_is_read_in_parts(user: Client, large: str) -> None:
    path = f"/api/executions/{large}/events/{HUGE}/payload"
    content = b""
    while True:
        answer = (await user.get(path, offset=len(content))).json
        content += base64.b64decode(answer["data"])
        if len(content) == answer["bytes"]:
            break
    assert orjson.loads(content) == {"data": "y" * (PAGE_BYTES + 1000)}
    for seq in ("0", "x", str(EVENTS + 1), "9" * 10):
        assert (await user.get(f"/api/executions/{large}/events/{seq}/payload")).status == 404


async def test_the_detail_names_every_event_of_its_page(user: Client, large: str) -> None:
    answer = await user.get(f"/api/executions/{large}")
    assert len(answer.body) < ANSWER_BYTES
    events = answer.json["events"]
    assert [event["seq"] for event in events] == list(range(EVENTS, 0, -1))
    whole = [event["seq"] for event in events if event["payload_bytes"] is None]
    assert whole[:4] == [30, 29, 28, 27]
    assert all(event["payload"] == {} for event in events if event["payload_bytes"] is not None)


async def test_a_list_of_executions_with_large_results_is_read_page_by_page(
    user: Client, database: Database, registered: dict[str, Any]
) -> None:
    ids = [(await user.post("/api/execute", {"path": "demo/two"})).json["execution_id"] for _ in range(12)]
    # those of one millisecond are in no order
    ids.sort(key=int)
    result = orjson.dumps({"data": "x" * 900_000}).decode()
    await database.run("UPDATE noetl.execution SET result = CAST(:result AS json)", result=result)
    found = await pages(user, "/api/executions", page_size=1000)
    assert [entry["execution_id"] for page in found for entry in page] == ids[::-1]
    assert [len(page) for page in found] == [4, 4, 4]


async def test_a_catalog_with_large_workloads_is_read_page_by_page(user: Client, database: Database) -> None:
    for number in range(6):
        text = (
            f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: p, path: big/p{number}}}\n"
            "workflow:\n  - {step: a, tool: {kind: noop}}\n"
        )
        assert (await user.post("/api/catalog/register", {"content": text})).status == 200
    payload = orjson.dumps({"text": "x" * 900_000}).decode()
    await database.run("UPDATE noetl.catalog SET payload = CAST(:payload AS jsonb)", payload=payload)
    paths: list[str] = []
    offset = 0
    while offset is not None:
        answer = await user.post("/api/catalog/list", {"offset": offset})
        assert len(answer.body) < ANSWER_BYTES
        paths += [entry["path"] for entry in answer.json["entries"]]
        offset = answer.json["next"]
    assert paths == [f"big/p{number}" for number in range(6)]


async def test_a_recording_has_room_for_some_results_and_commands_and_lists_give_the_rest(
    user: Client, database: Database, started: str
) -> None:
    await database.run(
        "INSERT INTO noetl.result_ref (execution_id, key, ref, store, bytes, sha256, content_type, scope) "
        "SELECT :id, lpad(n::text, 900, '0'), repeat('r', 900), 'disk', 1, 's', 'c', 'execution' "
        "FROM generate_series(1, 4000) n",
        id=int(started),
    )
    await database.run(
        "INSERT INTO noetl.command (execution_id, command_id, step, generation, kind, attempt, pool, status, seq, "
        "issued_at) SELECT :id, 'x#' || lpad(n::text, 5, '0'), 'x', 1, 'frame', 1, 'shared', 'pending', 2, now() "
        "FROM generate_series(1, 1500) n",
        id=int(started),
    )
    answer = await user.get(f"/api/executions/{started}/recording")
    assert answer.status == 200, answer.body[:500]
    assert len(answer.body) < ANSWER_BYTES
    recording = answer.json
    assert (len(recording["results"]), recording["more_results"]) == (1000, True)
    assert (len(recording["commands"]), recording["more_commands"]) == (1000, True)
    results = await pages(user, f"/api/executions/{started}/results", limit=5000)
    keys = [row["key"] for page in results for row in page]
    assert len(results) > 1 and len(keys) == len(set(keys)) == 4000 and keys == sorted(keys)
    commands = [row for page in await pages(user, f"/api/executions/{started}/commands") for row in page]
    assert len({row["command_id"] for row in commands}) == len(commands) == 1501
    assert {row["status"] for row in commands} == {"queued"}


@pytest.fixture
async def looping(database: Database, started: str) -> str:
    """An execution with a loop whose results are more than one page."""
    fill = {
        "event (execution_id, seq, type, at, payload)": "1000 + n, 'frame.committed', now(), CAST(:payload AS json)",
        "frame": "'each', 1, n, n + 1, 1000 + n, 1, 0",
    }
    for table, values in fill.items():
        await database.run(
            f"INSERT INTO noetl.{table} SELECT :id, {values} FROM generate_series(0, 11) n",
            id=int(started),
            **({"payload": orjson.dumps({"data": ["x" * 900_000]}).decode()} if ":payload" in values else {}),
        )
    await database.run("INSERT INTO noetl.stage VALUES (:id, 'each', 1, 1, 12, 'ok')", id=int(started))
    return started


async def test_a_manifest_is_read_page_by_page(user: Client, worker: Client, looping: str) -> None:
    path = f"/api/results/manifest/{looping}/each/1"
    for caller, headers in ((worker, {WIRE: "2"}), (user, {})):
        after, items = 0, []
        while after is not None:
            answer = await caller.call("GET", path, query={"after": after}, headers=headers)
            assert answer.status == 200, answer.body[:500]
            assert len(answer.body) < ANSWER_BYTES
            items += [(part["start"], part["end"], len(part["data"])) for part in answer.json["parts"]]
            after = answer.json["next"]
        assert items == [(0, 4, 4), (4, 8, 4), (8, 12, 4)]


async def test_a_worker_that_knows_no_pages_gets_a_manifest_whole_or_waits_for_one_that_does(
    worker: Client, database: Database, looping: str
) -> None:
    path = f"/api/results/manifest/{looping}/each/1"
    answer = await worker.get(path)
    assert answer.status == 503, "a page would look like all of it"
    # more than a page has room for, and less than an answer
    await database.run("DELETE FROM noetl.frame WHERE start_item >= 5 AND execution_id = :id", id=int(looping))
    answer = await worker.get(path)
    assert answer.status == 200
    assert PAGE_BYTES < len(answer.body) < ANSWER_BYTES
    assert [(part["start"], part["end"]) for part in answer.json["parts"]] == [(0, 5)]
    assert answer.json["next"] is None


async def test_the_results_of_a_loop_are_read_page_by_page(user: Client, database: Database, looping: str) -> None:
    started = looping
    after, lengths = 0, []
    while after is not None:
        answer = await user.get("/api/aggregate/loop/results", execution_id=started, step_name="each", after=after)
        assert len(answer.body) < ANSWER_BYTES
        assert answer.json["count"] == 12
        lengths.append(len(answer.json["results"]))
        after = answer.json["next"]
    assert lengths == [4, 4, 4]
    # the runs read are a page as they are written, and as they are answered no page yet
    spaced = "UPDATE noetl.event SET payload = CAST(replace(payload::text, '[', '[' || repeat(' ', 500000)) AS json)"
    await database.run(spaced + " WHERE execution_id = :id AND seq >= 1000", id=int(started))
    answer = await user.get("/api/aggregate/loop/results", execution_id=started, step_name="each")
    assert (len(answer.json["results"]), answer.json["next"]) == (3, 3), "what was not read is not told of"
