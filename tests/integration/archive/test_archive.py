"""Executions in the archive: all that was in the database can still be read, by people and by DuckDB."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from typing import Any

import duckdb
import orjson
import pytest
from tests.integration.archive.conftest import LATER, ArchiveHarness, Killed, days_ago, started_at
from tests.integration.control_plane.claiming_loop import RESULTS, run_claiming_loop

from noetl_serverless.archive import history, log_file
from noetl_serverless.archive.read import ArchiveReader
from noetl_serverless.cli.commands.archive import EPILOG
from noetl_serverless.control_plane.routes import results
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store import executions
from noetl_serverless.store.archives import Archives

READS = (
    "/api/executions/{id}",
    "/api/executions/{id}?page_size=3&page=2",
    "/api/executions/{id}?event_type=frame.committed",
    "/api/executions/{id}/status",
    "/api/executions/{id}/events",
    "/api/executions/{id}/events?after=3&limit=4",
    "/api/executions/{id}/events?event_type=frame.committed&limit=2",
    "/api/executions/{id}/events?after=100000",
    "/api/executions/{id}/events/2/payload",
    "/api/executions/{id}/runs",
    "/api/executions/{id}/runs?step=each&limit=1",
    "/api/executions/{id}/runs?failed=true",
    "/api/executions/{id}/results",
    "/api/executions/{id}/recording",
    "/api/replay/state?execution_id={id}",
    "/api/replay/state?execution_id={id}&as_of_event_id=4",
    "/api/replay/validate?execution_id={id}",
    "/api/results/manifest/{id}/each/1",
    "/api/aggregate/loop/results?execution_id={id}&step_name=each",
)


async def read(harness: ArchiveHarness, path: str) -> Any:
    place, _, query = path.partition("?")
    answer = await harness.user.get(place, **dict(pair.split("=") for pair in query.split("&") if pair))
    assert answer.status == 200, (path, answer.body)
    body = answer.json
    if isinstance(body, dict):
        body.pop("archived", None)
        body.pop("progress", None)
    headers = {name: value for name, value in answer.headers.items() if name.startswith("noetl-")}
    return body, headers


async def test_what_is_archived_reads_as_before(harness: ArchiveHarness) -> None:
    id, other = await harness.run(), await harness.run("demo/two", x=1)
    before = {path: await read(harness, path.format(id=id)) for path in READS}
    assert before["/api/results/manifest/{id}/each/1"][0]["parts"], "the loop left parts"
    await harness.archive()
    for table in ("execution", "event", "stage", "frame", "command", "inbox"):
        assert await harness.count(table) == 0
    after = {path: await read(harness, path.format(id=id)) for path in READS}
    assert after == before
    detail = (await harness.user.get(f"/api/executions/{other}")).json
    assert (detail["archived"], detail["status"]) == (True, "COMPLETED")
    assert detail["result"] == {"data": {"n": 1}}


ACCUMULATES = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: pages, path: demo/pages}
workflow: [{step: read, tool: {kind: noop, output: {accumulate: {manifest_as: n}}}}]
"""


async def test_what_a_step_has_accumulated_is_known_of_an_archived_execution_too(harness: ArchiveHarness) -> None:
    assert (await harness.user.post("/api/catalog/register", {"content": ACCUMULATES})).status == 200
    id = await harness.run("demo/pages")
    await harness.archive()
    assert await harness.count("execution") == 0
    answer = await harness.user.call("HEAD", f"/api/result/{id}/read?resolve=true", headers={"accept": "*/*"})
    assert (answer.status, answer.headers["noetl-accumulated"]) == (200, "n")


async def test_variables_leave_the_table_and_can_still_be_read(harness: ArchiveHarness) -> None:
    answer = await harness.user.post("/api/execute", {"path": "demo/two", "payload": {"x": 1}})
    id = str(answer.json["execution_id"])
    for variables, ttl in (({"limit": 3}, "30d"), ({"other": [1]}, None)):
        await harness.user.post(f"/api/vars/{id}", {"variables": variables, "ttl": ttl})
    await harness.finish()
    await harness.user.get(f"/api/vars/{id}/limit")
    before = (await harness.user.get(f"/api/vars/{id}")).json
    assert await harness.count("transient") == 2
    await harness.archive()
    assert await harness.count("transient") == 0
    after = (await harness.user.get(f"/api/vars/{id}")).json
    kept = ("value", "type", "source_step", "created_at", "expires_at", "scope")
    assert {name: [it[key] for key in kept] for name, it in after["variables"].items()} == {
        name: [it[key] for key in kept] for name, it in before["variables"].items()
    }
    assert (await harness.user.get(f"/api/vars/{id}/other")).json["value"] == [1]
    assert (await harness.user.get(f"/api/vars/{id}/none")).status == 404
    assert (await harness.user.post(f"/api/vars/{id}", {"variables": {"x": 1}})).status in (404, 409)
    assert (await harness.user.get("/api/replay/validate", execution_id=id)).json["valid"]


PAGED = (
    ("/api/results/manifest/{id}/each/1", "parts"),
    ("/api/aggregate/loop/results?execution_id={id}&step_name=each", "results"),
)


async def pages(harness: ArchiveHarness, path: str, rows: str) -> list[Any]:
    """A list from its pages, each as it came."""
    found, after = [], 0
    while after is not None:
        body, _ = await read(harness, f"{path}{'&' if '?' in path else '?'}after={after}")
        assert after < (body["next"] or after + 1), "a page leads on"
        found.append(body[rows])
        after = body["next"]
    return found


async def logs(harness: ArchiveHarness, id: str) -> list[list[Any]]:
    """The log, from its pages."""
    found: list[list[Any]] = []
    head = 1
    while sum(map(len, found)) < head:
        body, headers = await read(harness, f"/api/executions/{id}/events?after={sum(map(len, found))}")
        found.append(body)
        head = int(headers["noetl-last-seq"])
    return found


async def test_an_archived_execution_is_read_a_few_blocks_at_a_time_and_in_the_same_pages(
    harness: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (executions, history, results):
        monkeypatch.setattr(module, "PAGE_BYTES", 12)
    monkeypatch.setattr(log_file, "BLOCK_BYTES", 100)
    monkeypatch.setattr(log_file, "MAX_CONCURRENT_BLOCKS", 2)
    id = await harness.run()
    before = {path: await read(harness, path.format(id=id)) for path in READS}
    listed = {path: await pages(harness, path.format(id=id), rows) for path, rows in PAGED}
    assert all(len(found) > 2 for found in listed.values()), "there is more than one page"
    log = await logs(harness, id)
    assert len(log) > 2
    await harness.archive()
    [[blocks]] = await harness.database.run("SELECT blocks FROM noetl.archived WHERE execution_id = :id", id=int(id))
    assert len(blocks) > 6
    limit = max(sum(length for _, _, length in blocks[at : at + 2]) for at in range(len(blocks)))
    lengths: list[int] = []
    get_range = FsspecResultStore.get_range

    async def noted(self: FsspecResultStore, key: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return await get_range(self, key, offset, length)

    monkeypatch.setattr(FsspecResultStore, "get_range", noted)
    assert {path: await read(harness, path.format(id=id)) for path in READS} == before
    assert {path: await pages(harness, path.format(id=id), rows) for path, rows in PAGED} == listed
    assert await logs(harness, id) == log
    assert lengths and max(lengths) <= limit, "it was read whole"
    reader = history.History(harness.database, ArchiveReader(Archives(harness.database), lambda: harness.store))
    kept, more = await reader.loop_results(int(id), "each", 1, after=2, max_bytes=12)
    assert ([(part.start, part.end) for part in kept], more) == ([(2, 4)], True), (
        "more was kept than a page has room for"
    )


async def test_the_rows_that_a_loop_claimed_read_as_before_past_claims_that_found_less(
    harness: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await run_claiming_loop(harness.user, harness.hands)
    path, rows_of = PAGED[1]
    path = path.format(id=id)
    whole = await pages(harness, path, rows_of)
    assert whole == [RESULTS], "no page of nothing"
    for module in (executions, history, results):
        monkeypatch.setattr(module, "PAGE_BYTES", 12)
    small = await pages(harness, path, rows_of)
    assert [row for page in small for row in page] == whole[0]
    assert small[-1] != []
    await harness.archive()
    assert await pages(harness, path, rows_of) == small
    monkeypatch.undo()
    assert await pages(harness, path, rows_of) == whole


async def test_items_of_a_loop_that_have_not_run_read_as_before(harness: ArchiveHarness) -> None:
    id = str((await harness.user.post("/api/execute", {"path": "demo/loop"})).json["execution_id"])
    *_, last = sorted(await harness.hands.claim(), key=lambda command: int(command["frame"]["start"]))
    start, end = last["frame"]["start"], last["frame"]["end"]
    frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
    await harness.hands.report(last, data=["last"] * (end - start), frame=frame)
    assert (await harness.user.post(f"/api/executions/{id}/cancel", {})).status == 200
    path = PAGED[1][0].format(id=id)
    before = await pages(harness, path, "results")
    assert before == [[*[None] * start, *["last"] * (end - start)]]
    assert start > 0
    await harness.archive()
    assert await pages(harness, path, "results") == before


async def test_a_loop_that_went_on_with_another_reads_as_before(harness: ArchiveHarness) -> None:
    old = str((await harness.user.post("/api/execute", {"path": "demo/loop"})).json["execution_id"])
    [first, *_] = await harness.hands.claim()
    start, end = first["frame"]["start"], first["frame"]["end"]
    frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
    await harness.hands.report(first, data=[{"of": "old"}] * (end - start), frame=frame)
    assert (await harness.user.post(f"/api/executions/{old}/cancel", {})).status == 200
    answer = (await harness.user.post(f"/api/executions/{old}/restart", {})).json
    assert answer["items_reused"] == {"each": end - start}
    await harness.finish()
    id = answer["execution_id"]
    before = {path: await read(harness, path.format(id=id)) for path in READS}
    body, _ = before["/api/aggregate/loop/results?execution_id={id}&step_name=each"]
    assert body["stats"] == {"total": 6, "success": 6, "failed": 0}
    assert [result.get("of") for result in body["results"]].count("old") == end - start
    await harness.archive()
    assert await harness.count("event") == 0
    assert {path: await read(harness, path.format(id=id)) for path in READS} == before


async def test_an_archived_execution_still_has_its_warnings_and_shows_who_started_it(harness: ArchiveHarness) -> None:
    silent = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: silent, path: demo/silent}
workflow:
  - {step: first, tool: {kind: noop}, next: {arcs: [{step: second, when: "{{ false }}"}]}}
  - {step: second, tool: {kind: noop}}
"""
    await harness.user.post("/api/catalog/register", {"content": silent})
    id = await harness.run("demo/silent")
    before = (await harness.user.get(f"/api/executions/{id}")).json
    assert [warning["step"] for warning in before["warnings"]] == ["first"]
    await harness.archive()
    after = (await harness.user.get(f"/api/executions/{id}")).json
    assert after["archived"]
    for name in ("warnings", "principal", "quarantined"):
        assert after[name] == before[name], name


async def test_the_list_shows_both_and_marks_those_archived(harness: ArchiveHarness) -> None:
    old = [await harness.run("demo/two") for _ in range(3)]
    await harness.archive()
    new = await harness.run("demo/two")
    found = (await harness.user.get("/api/executions")).json
    assert [(entry["execution_id"], entry["archived"]) for entry in found] == [
        (new, False),
        *((id, True) for id in reversed(old)),
    ]
    page = await harness.user.get("/api/executions", page=2, page_size=2)
    assert [entry["execution_id"] for entry in page.json] == [old[1], old[0]]
    assert (await harness.user.get("/api/executions", path="demo/loop")).json == []
    assert (await harness.user.get("/api/executions", status="FAILED")).json == []


async def test_while_a_batch_is_being_archived_lists_show_each_execution_once(harness: ArchiveHarness) -> None:
    ids = [await harness.run("demo/two") for _ in range(2)]
    assert len((await harness.plan())["planned"]) == 1
    found = (await harness.user.get("/api/executions")).json
    assert [(entry["execution_id"], entry["archived"]) for entry in found] == [(id, False) for id in reversed(ids)]
    with pytest.raises(Killed):
        await harness.archivist("register").run(600)
    found = (await harness.user.get("/api/executions")).json
    assert [(entry["execution_id"], entry["archived"]) for entry in found] == [(id, False) for id in reversed(ids)]


async def test_going_back_by_the_last_one_seen_gives_each_execution_once(harness: ArchiveHarness) -> None:
    ids = [await harness.run("demo/two") for _ in range(2)]
    await harness.archive()
    ids += [await harness.run("demo/two") for _ in range(2)]
    seen: list[str] = []
    while page := (
        await harness.user.get("/api/executions", page_size=1, **({"before": seen[-1]} if seen else {}))
    ).json:
        seen += [entry["execution_id"] for entry in page]
        assert len(seen) <= len(ids), f"{seen[-1]} comes again"
    assert seen == ids[::-1]


async def test_what_runs_is_never_archived(harness: ArchiveHarness) -> None:
    running = str((await harness.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    assert (await harness.plan())["planned"] == []
    await harness.finish()
    await harness.archive()
    assert (await harness.user.get(f"/api/executions/{running}")).json["archived"] is True


async def test_what_ended_later_stays(harness: ArchiveHarness) -> None:
    old = await harness.shift(await harness.run("demo/two"), 1)
    await harness.run("demo/two")
    assert (await harness.plan(days_ago(2)))["planned"] == []
    answer = await harness.plan(days_ago(0.5))
    [entry] = (await harness.user.get("/api/archives", ids=answer["planned"][0])).json["items"]
    assert (entry["first_execution_id"], entry["executions"], entry["status"]) == (old, 1, "planned")


async def test_archiving_without_an_age_is_refused(harness: ArchiveHarness) -> None:
    answer = await harness.user.of("operator").post("/api/archives", {})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert (await harness.user.post("/api/archives", {})).status == 403


async def test_a_dry_run_changes_nothing(harness: ArchiveHarness) -> None:
    await harness.run("demo/two")
    body = {"before": "2100-01-01T00:00:00Z", "dry_run": True}
    answer = (await harness.user.of("operator").post("/api/archives", body)).json
    assert [(due["executions"], due["events"] > 3) for due in answer["due"]] == [(1, True)]
    assert await harness.count("archive") == 0


async def test_one_execution_can_be_run_again_and_cannot_be_cancelled(harness: ArchiveHarness) -> None:
    id = await harness.run("demo/two", a={"b": 7}, ctx={"c": 1})
    await harness.archive()
    cancelled = (await harness.user.post(f"/api/executions/{id}/cancel", {})).json
    assert cancelled["status"] == "already_completed"
    again = (await harness.user.post(f"/api/executions/{id}/rerun", {})).json["execution_id"]
    first = (await harness.user.get(f"/api/executions/{again}/events", limit=1)).json[0]
    assert (first["payload"]["workload"]["a"], first["payload"]["ctx"]) == ({"b": 7, "c": 2}, {"c": 1})
    rebuilt = await harness.user.of("operator").post("/api/replay/rebuild", {"execution_id": id})
    assert (rebuilt.status, rebuilt.json["code"]) == (409, "resource.conflict")
    everything = (await harness.user.of("operator").post("/api/replay/rebuild", {})).json
    assert [entry["execution_id"] for entry in everything["executions"]] == [again]


async def test_duckdb_reads_the_files(harness: ArchiveHarness) -> None:
    ids = [await harness.run(), await harness.run("demo/two")]
    events = {id: (await harness.user.get(f"/api/executions/{id}/events")).json for id in ids}
    await harness.archive()
    root = harness.root
    db = duckdb.connect()
    table = f"read_parquet('{root}/archive/%s/**/*.parquet', hive_partitioning = true)"
    rows = db.sql(
        f"SELECT execution_id, seq, type, step, payload, timestamp FROM {table % 'events'} ORDER BY ALL"
    ).fetchall()
    assert [(str(row[0]), row[1], row[2], row[3], json.loads(row[4])) for row in rows] == [
        (id, event["seq"], event["event_type"], event["step"], event["payload"]) for id in ids for event in events[id]
    ]
    described = db.sql(f"DESCRIBE SELECT * FROM {table % 'events'}").fetchall()
    kinds = {row[0]: row[1] for row in described}
    expected = {
        "execution_id": "BIGINT",
        "seq": "INTEGER",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "payload": "VARCHAR",
    }
    assert {name: kinds[name] for name in expected} == expected
    assert {"year", "month"} <= kinds.keys()
    found = db.sql(
        f"SELECT path, status, ended_at >= created_at, year FROM {table % 'executions'} ORDER BY 1"
    ).fetchall()
    assert [row[:3] for row in found] == [("demo/loop", "COMPLETED", True), ("demo/two", "COMPLETED", True)]
    [(notes,)] = db.sql(f"SELECT workload->>'$.note' FROM {table % 'executions'} WHERE path = 'demo/loop'").fetchall()
    assert notes == 'naïve "quotes" \\ and\nlines'
    db.sql(f"SELECT * FROM {table % 'results'}").fetchall()


async def test_the_queries_of_the_help_run(harness: ArchiveHarness) -> None:
    id = await harness.run()
    await harness.archive()
    queries = re.findall(r"^  SELECT .*?;$", EPILOG, re.MULTILINE | re.DOTALL)
    assert len(queries) == 2
    for query in queries:
        # of the execution: today's may be another by now
        year = f"year = {started_at(id).year}"
        duckdb.connect().sql(query.replace("DATA/results", str(harness.root)).replace("year = 2026", year)).fetchall()


async def test_results_by_reference_are_found_again(harness: ArchiveHarness) -> None:
    id = str((await harness.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    [command] = await harness.hands.claim()
    key = f"{id}/first/abc.json"
    content = b'{"rows": 3}'
    stored = await harness.store.put(key, content)
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{id}/result/first/00000abc",
        "store": stored.store,
        "key": key,
        "scope": "execution",
        "expires_at": None,
        "meta": {
            "content_type": "application/json",
            "bytes": stored.bytes,
            "sha256": hashlib.sha256(content).hexdigest(),
            "created_at": "2026-01-01T00:00:00Z",
        },
        "preview": "{}",
        "extracted": {},
    }
    await harness.work((await harness.hands.report(command, ref=ref))["commands"])
    await harness.finish()
    recording = (await harness.user.get(f"/api/executions/{id}/recording")).json
    assert [row["key"] for row in recording["results"]] == [key]
    await harness.archive()
    assert (await harness.user.get(f"/api/executions/{id}/recording")).json == recording
    assert (await harness.user.get("/api/replay/validate", execution_id=id)).json["differences"] == []
    data = (await harness.user.get(f"/api/results/data/{id}", key=key)).json
    assert base64.b64decode(data["data"]) == b'{"rows": 3}'
    table = f"read_parquet('{harness.root}/archive/results/**/*.parquet')"
    assert duckdb.connect().sql(f"SELECT key, bytes FROM {table}").fetchall() == [(key, 11)]


async def test_the_log_file_is_json_lines(harness: ArchiveHarness) -> None:
    id = await harness.run("demo/two")
    await harness.archive()
    [path] = harness.root.glob("archive/log/**/*.jsonl.gz")
    lines = [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert str(lines[0]["execution"]["execution_id"]) == id
    assert [line["seq"] for line in lines[1:]] == list(range(1, len(lines)))


async def test_batches_are_bounded_and_of_one_month(harness: ArchiveHarness) -> None:

    ids = [await harness.run("demo/two") for _ in range(5)]
    old = await harness.shift(ids[0], 40)
    archives = Archives(harness.database)
    planned = []
    while (id := await archives.plan("archive", LATER, max_executions=2)) is not None:
        planned.append(id)
    found = await archives.by_ids(planned)
    assert [archive.executions for archive in found] == [1, 2, 2]
    assert (found[0].first_id, found[0].month < found[1].month) == (int(old), True)
    assert await archives.plan("archive", LATER) is None
    # of many events one execution is a batch
    await harness.sql("DELETE FROM noetl.archive")
    one = await archives.plan("archive", LATER, max_executions=5, max_events=1)
    assert (await archives.by_ids([one or 0]))[0].executions == 1


@pytest.mark.parametrize("size", [10, 1000])
async def test_pages_give_every_row_once(harness: ArchiveHarness, size: int) -> None:

    for _ in range(4):
        await harness.run("demo/two")
    archives = Archives(harness.database)
    batch = await archives.plan("archive", LATER)
    assert batch is not None
    seen: list[tuple[int, int]] = []
    after, seq, pages = 0, 0, 0
    while page := await archives.events(batch, after, seq, size):
        seen += [(row[0], row[1]) for row in page]
        after, seq = seen[-1]
        pages += 1
    expected = await harness.sql("SELECT execution_id, seq FROM noetl.event ORDER BY 1, 2")
    assert seen == [tuple(row) for row in expected]
    assert pages > (len(seen) - 1 if size == 10 else 1)


async def test_what_was_put_goes_into_the_archive_and_is_read_there(harness: ArchiveHarness) -> None:
    answer = await harness.user.post("/api/execute", {"path": "demo/two"})
    id = str(answer.json["execution_id"])
    refs = []
    for number in range(3):
        # the row of a permanent one stays in the database
        scope = "permanent" if number == 1 else "execution"
        body = orjson.dumps({"name": f"n{number}", "data": number, "source_step": "first", "scope": scope})
        done = await harness.user.call("PUT", f"/api/result/{id}", body)
        assert done.status == 200, done.body
        refs.append(done.json["ref"])
    await harness.user.call("DELETE", "/api/result", query={"ref": refs[0]})
    await harness.finish()
    before = (await harness.user.get(f"/api/result/{id}/list")).json
    assert [row["ref"] for row in before["results"]] == refs[1:]
    await harness.archive()
    assert await harness.count("result_ref") == 1
    assert (await harness.user.get(f"/api/result/{id}/list")).json == before
    assert (await harness.user.get(f"/api/result/{id}/list", step="first", name="n1")).json["results"] == [
        before["results"][0]
    ]
    assert (await harness.user.get(f"/api/result/{id}/first")).json["ref"] == refs[2], "the newest"
    assert (await harness.user.get("/api/result/resolve", ref=refs[1])).json == 1
    assert (await harness.user.get("/api/result/resolve", ref=refs[0])).status == 404
    assert (await harness.user.get("/api/replay/validate", execution_id=id)).json["valid"]
    # it is only read there
    body = orjson.dumps({"name": "late", "data": 1})
    for refused in (
        await harness.user.call("PUT", f"/api/result/{id}", body),
        await harness.user.call("DELETE", "/api/result", query={"ref": refs[1]}),
        await harness.user.delete(f"/api/result/{id}"),
    ):
        assert (refused.status, refused.json["code"]) == (409, "resource.conflict")


async def test_nothing_is_put_into_an_execution_whose_files_are_being_written(harness: ArchiveHarness) -> None:
    id = await harness.run("demo/two")
    await harness.plan()
    refused = await harness.user.call("PUT", f"/api/result/{id}", orjson.dumps({"name": "late", "data": 1}))
    assert refused.status == 409, "its row would be in no file"
    assert not [path for path in harness.files() if path.startswith(id)], "nor is its object left"
