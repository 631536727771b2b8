"""Results that are put, read, listed and deleted over REST, with a real PostgreSQL and a real folder."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from tests.integration.control_plane.conftest import Answer, Client, FakeWorker

from noetl_serverless.ports import StoredObject
from noetl_serverless.reconciler.collection import GRACE_SECONDS
from noetl_serverless.results.compression import Codec
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.database import Database
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.uri import ResultUri

ARROW = "application/vnd.apache.arrow.stream"


async def put(client: Client, id: str, name: str, data: Any, **fields: Any) -> dict[str, Any]:
    answer = await put_json(client, id, {"name": name, "data": data, **fields})
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def put_json(client: Client, id: str, body: Any, *, folder: str = "result", **headers: str) -> Answer:
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.call("PUT", f"/api/{folder}/{id}", orjson.dumps(body), headers=named)


async def put_content(
    client: Client, id: str, name: str, pieces: list[bytes], content_type: str = ARROW, **query: Any
) -> Answer:
    given = {"name": name, **query}
    return await client.call("PUT", f"/api/result/{id}", pieces, query=given, headers={"content-type": content_type})


def objects(results_url: str) -> list[Path]:
    folder = Path(results_url.removeprefix("file://"))
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_was_put_is_read_by_its_uri_whatever_its_name(user: Client, started: str, results_url: str) -> None:
    content = b'{"rows":[1,2],"n":3}'
    names = ["load", "a/b", "100%", ".", "..", "名前 ∀", "'; DROP TABLE x --", "x" * 200]
    for name in names:
        done = await put(user, started, name, {"rows": [1, 2], "n": 3}, extracted={"n": 3}, correlation={"page": 1})
        uri = ResultUri.parse(done["ref"])
        assert (uri.execution_id, uri.kind, uri.step) == (started, "result", name)
        assert (done["bytes"], done["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert (done["status"], done["store"], done["scope"]) == ("stored", "disk", "execution")
        assert (done["expires_at"], done["kind"]) == (None, "result_ref")
        read = await user.get("/api/result/resolve", ref=done["ref"])
        assert (read.status, read.body, read.headers["content-type"]) == (200, content, "application/json")
        by_step = await user.get(f"/api/result/{started}/{name}")
        assert by_step.json["extracted"] == {"n": 3} and by_step.json["correlation"] == {"page": 1}
        assert (await user.get(f"/api/result/{started}/{name}", resolve="true")).body == content
    # one file each, below the folder of the execution
    written = objects(results_url)
    assert len(written) == len(names)
    assert {path.parent.parent.name for path in written} == {started}
    assert {path.read_bytes() for path in written} == {content}


async def test_a_body_of_any_type_is_stored_as_it_comes(user: Client, started: str, results_url: str) -> None:
    pieces = [bytes([n % 251]) * 300_000 for n in range(20)]
    content = b"".join(pieces)
    done = await put_content(user, started, "table", pieces, source_step="first", scope="workflow", ttl="1d")
    assert done.status == 200, done.body
    assert (done.json["bytes"], done.json["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (done.json["content_type"], done.json["step"], done.json["scope"]) == (ARROW, "first", "workflow")
    read = await user.get("/api/result/resolve", ref=done.json["ref"])
    assert read.body == content
    assert (read.headers["content-type"], read.headers["content-length"]) == (ARROW, str(len(content)))
    assert read.headers["etag"] == f'"{done.json["sha256"]}"'
    # no page of our origin, whatever it is
    assert read.headers["content-security-policy"].startswith("sandbox")
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["content-disposition"] == "attachment; filename*=UTF-8''table.arrows"
    head = await user.call("HEAD", "/api/result/resolve", query={"ref": done.json["ref"]})
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(content)))
    assert len(objects(results_url)) == 1, "nothing else is left of it"


RANGES = (
    ("bytes=0-0", 0, 1),
    ("bytes=5-", 5, None),
    ("bytes=-7", -7, None),
    ("bytes=1000-4999999", 1000, 5_000_000),
    ("bytes=4194300-4194310", 4194300, 4194311),
    ("bytes=10-999999999999", 10, None),
)


@pytest.mark.parametrize("compress", [None, "gzip", "zstd"])
async def test_a_part_is_read(user: Client, started: str, compress: str | None) -> None:
    content = b"".join(b"%08d\n" % n for n in range(600_000))
    query = {} if compress is None else {"compress": compress}
    done = await put_content(user, started, "lines", [content], "text/csv", **query)
    assert (done.json["bytes"], done.json["compression"]) == (len(content), compress)
    assert (done.json["stored_bytes"] < len(content)) == (compress is not None)
    path = "/api/result/resolve?ref=" + quote(done.json["ref"], safe="")
    for text, start, end in RANGES:
        answer = await user.call("GET", path, headers={"range": text})
        wanted = content[start:end]
        assert (answer.status, answer.headers["content-length"]) == (206, str(len(wanted))), text
        assert answer.body == wanted, text
        first = start % len(content)
        assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(content)}"
    whole = await user.call("GET", path)
    assert (whole.status, whole.body == content) == (200, True)
    etag = whole.headers["etag"]
    same = await user.call("GET", path, headers={"range": "bytes=5-", "if-range": etag})
    other = await user.call("GET", path, headers={"range": "bytes=5-", "if-range": '"x"'})
    assert (same.status, other.status, other.body == content) == (206, 200, True)
    for known in (etag, f'"other", W/{etag}', "*"):
        assert (await user.call("GET", path, headers={"if-none-match": known})).status == 304, known
    assert (await user.call("GET", path, headers={"if-none-match": '"other"'})).status == 200


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_what_a_step_stores_compressed_is_read_without(
    user: Client, hands: FakeWorker, started: str, results_url: str, codec: Codec
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    place = Place(execution_id=started, step="first", suffix="x")
    stored = await externalise(list(range(100_000)), place, stores, Output(compression=codec))
    await hands.report(command, **stored)
    read = await user.get(f"/api/result/{started}/first", resolve="true")
    assert (read.status, read.json == list(range(100_000))) == (200, True)
    assert (await user.get(f"/api/result/{started}/first")).json["compression"] == codec


async def test_a_part_behind_the_end_is_refused_and_what_is_no_range_is_ignored(user: Client, started: str) -> None:
    done = await put_content(user, started, "few", [b"abc"], "text/plain")
    empty = await put_content(user, started, "none", [b""], "text/plain")
    path = "/api/result/resolve?ref=" + quote(done.json["ref"], safe="")
    behind = await user.call("GET", path, headers={"range": "bytes=3-"})
    assert (behind.status, behind.json["code"], behind.json["bytes"]) == (416, "request.range", 3)
    for text in ("bytes=2-1", "bytes=a-b", "lines=0-1", "bytes=0-0,2-2", "bytes=-", ""):
        assert (await user.call("GET", path, headers={"range": text})).status == 200, text
    read = await user.get("/api/result/resolve", ref=empty.json["ref"])
    assert (read.status, read.body) == (200, b"")


async def test_the_same_content_again_is_the_same_result(user: Client, started: str, results_url: str) -> None:
    one = await put(user, started, "load", [1], ttl="1h")
    again = await put(user, started, "load", [1], ttl="forever", scope="permanent")
    assert (again["ref"], again["status"]) == (one["ref"], "same")
    assert one["expires_at"] is not None and (again["expires_at"], again["scope"]) == (None, "permanent")
    other = await put(user, started, "load", [2])
    assert other["ref"] != one["ref"]
    assert len(objects(results_url)) == 2
    assert (await user.get(f"/api/result/{started}/load")).json["ref"] == other["ref"], "the newest"
    # put again, it is the newest
    await put(user, started, "load", [1])
    assert (await user.get(f"/api/result/{started}/load")).json["ref"] == one["ref"]


async def test_a_retry_with_an_idempotency_key_changes_nothing(user: Client, started: str) -> None:
    body = {"name": "load", "data": [1]}
    one = await put_json(user, started, body, idempotency_key="k")
    await put(user, started, "load", [2])
    again = await put_json(user, started, {**body, "scope": "permanent"}, idempotency_key="k")
    assert (again.json["ref"], again.json["scope"]) == (one.json["ref"], "execution")
    assert (await user.get(f"/api/result/{started}/load", resolve="true")).json == [2], "the retry is not newer"
    other = await put_json(user, started, {**body, "data": [3]}, idempotency_key="k")
    assert (other.status, other.json["code"]) == (409, "resource.conflict")
    # another caller's key is another key
    assert (await put_json(user.of("operator"), started, {**body, "data": [3]}, idempotency_key="k")).status == 200


async def test_the_list_has_what_steps_stored_and_what_was_put_page_by_page(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    stored = await externalise([1] * 50_000, Place(execution_id=started, step="first", suffix="x"), stores)
    await hands.report(command, **stored)
    for n in range(5):
        await put(user, started, f"p{n % 2}", n, source_step="second", scope="permanent" if n == 4 else "execution")
    await put(user, started, "list", "a step may be called so")

    async def listed(**query: Any) -> list[tuple[str, str | None, bool]]:
        rows: list[tuple[str, str | None, bool]] = []
        after = ""
        while after is not None:
            page = (await user.get(f"/api/result/{started}/list", after=after, limit=2, **query)).json
            assert len(page["results"]) <= 2
            rows += [(row["name"], row["step"], row["put_by"] is None) for row in page["results"]]
            after = page["next"]
        return rows

    of_second = [(f"p{n % 2}", "second", False) for n in range(5)]
    assert await listed() == [("first", "first", True), ("list", "list", False), *of_second]
    assert await listed(step="second") == of_second
    assert await listed(name="p1") == [("p1", "second", False)] * 2
    assert await listed(scope="permanent") == [("p0", "second", False)]
    assert await listed(step="seco") == [], "not by a part of its name"
    assert (await user.get(f"/api/result/{started}/seco")).status == 404
    ref = (await user.get(f"/api/result/{started}/first")).json["ref"]
    assert ref == stored["ref"]["ref"]
    assert (await user.get("/api/result/resolve", ref=ref)).json == [1] * 50_000
    (entry,) = (await user.get(f"/api/result/{started}/list", step="first")).json["results"]
    assert entry == (await user.get(f"/api/result/{started}/first")).json
    assert (entry["preview"], entry["row_count"]) == (stored["ref"]["preview"], 50_000), "as the log has it"
    stats = (await user.get("/api/result/stats", execution_id=started)).json
    assert (stats["results"], stats["put"]["results"], stats["complete"]) == (7, 6, True)
    assert stats["by_scope"]["permanent"]["results"] == 1 and stats["by_store"]["disk"]["results"] == 7


async def test_below_temp_it_is_a_temp_ref(user: Client, started: str) -> None:
    done = await put_json(user, started, {"name": "x", "data": 1}, folder="temp")
    assert done.json["kind"] == "temp_ref"
    assert ResultUri.parse(done.json["ref"]).kind == "tmp"
    assert (await user.get("/api/temp/resolve", ref=done.json["ref"])).json == 1
    assert (await user.get(f"/api/temp/{started}/x")).json["kind"] == "temp_ref"
    assert [row["kind"] for row in (await user.get(f"/api/temp/{started}/list")).json["results"]] == ["temp_ref"]
    assert (await user.get("/api/temp/stats")).json["results"] == 1
    assert (await user.get("/api/temp/url", ref=done.json["ref"])).status == 501
    gone = await user.call("DELETE", "/api/temp", query={"ref": done.json["ref"]})
    assert gone.json["deleted_count"] == 1
    assert (await user.delete(f"/api/temp/{started}")).json["deleted_count"] == 0
    assert (await user.delete(f"/api/temp/{started}/step/x")).json["deleted_count"] == 0


async def test_what_is_deleted_is_gone_for_its_readers_and_in_its_store(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    stored = await externalise([1] * 50_000, Place(execution_id=started, step="first", suffix="x"), stores)
    await hands.report(command, **stored)
    one = await put(user, started, "load", [1])
    kept = await put(user, started, "keep", [1], scope="permanent")
    assert len(objects(results_url)) == 3
    # of a step that has run, while its execution goes on
    gone = await user.call("DELETE", "/api/result", query={"ref": stored["ref"]["ref"]})
    assert (gone.status, gone.json["deleted_count"]) == (200, 1)
    read = await user.get("/api/result/resolve", ref=stored["ref"]["ref"])
    assert (read.status, read.json["code"], read.json["reason"]) == (404, "REFERENCE_NOT_AVAILABLE", "missing")
    assert (await user.get(f"/api/result/{started}/first")).status == 404
    assert (await user.get("/api/replay/validate", execution_id=started)).json["valid"], "the log has it as before"
    assert (await user.delete(f"/api/result/{started}")).json["deleted_count"] == 1, "all but what is permanent"
    assert (await user.get("/api/result/resolve", ref=one["ref"])).status == 404
    assert (await user.get("/api/result/resolve", ref=kept["ref"])).json == [1]
    assert len(objects(results_url)) == 1
    again = await user.call("DELETE", "/api/result", query={"ref": stored["ref"]["ref"]})
    assert (again.status, again.json["deleted_count"]) == (200, 0)
    # what was put once may be put again
    assert (await put(user, started, "load", [1]))["status"] == "stored"
    assert (await user.delete(f"/api/result/{started}/step/load")).json["deleted_count"] == 1
    assert (await user.call("DELETE", f"/api/result/{started}", query={"scope": "permanent"})).json[
        "deleted_count"
    ] == 1
    assert objects(results_url) == []


async def test_what_was_put_is_no_difference_and_survives_a_rebuild(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    stored = await externalise([1] * 50_000, Place(execution_id=started, step="first", suffix="x"), stores)
    await hands.report(command, **stored)
    done = await put(user, started, "load", [1])
    await user.call("DELETE", "/api/result", query={"ref": stored["ref"]["ref"]})
    assert (await user.get("/api/replay/validate", execution_id=started)).json["valid"]
    operator = user.of("operator")
    rebuilt = await operator.post("/api/replay/rebuild", {"execution_id": started})
    assert rebuilt.status == 200 and rebuilt.json["executions"][0]["differences"] == []
    assert (await user.get("/api/result/resolve", ref=done["ref"])).json == [1]
    assert (await user.get("/api/result/resolve", ref=stored["ref"]["ref"])).status == 404, "it stays deleted"
    # a recording is of the log alone
    recorded = (await user.get(f"/api/executions/{started}/results")).json["items"]
    assert [row["ref"] for row in recorded] == [stored["ref"]["ref"]]


async def test_an_object_that_is_missing_is_put_again(user: Client, started: str, results_url: str) -> None:
    one = await put(user, started, "load", [1])
    for path in objects(results_url):
        path.unlink()
    read = await user.get("/api/result/resolve", ref=one["ref"])
    assert (read.status, read.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE")
    again = await put(user, started, "load", [1])
    assert again["status"] == "stored"
    assert (await user.get("/api/result/resolve", ref=again["ref"])).json == [1]
    assert len((await user.get(f"/api/result/{started}/list")).json["results"]) == 1


async def test_it_expires_and_can_then_be_put_again(
    user: Client, started: str, database: Database, results_url: str
) -> None:
    one = await put(user, started, "load", [1], ttl="1h")
    await database.run("UPDATE noetl.result_ref SET expires_at = now() - interval '1 s'")
    read = await user.get("/api/result/resolve", ref=one["ref"])
    assert (read.status, read.json["reason"]) == (404, "expired")
    assert (await user.get(f"/api/result/{started}/list")).json["results"] == []
    again = await put(user, started, "load", [1], ttl="1h")
    assert again["status"] == "stored" and again["ref"] != one["ref"]
    assert len(objects(results_url)) == 1, "the former object is deleted"


async def test_two_results_with_one_uri_are_distinguished_by_their_sha256(
    user: Client, started: str, database: Database
) -> None:
    one, other = [await put(user, started, "load", n) for n in (1, 2)]
    await database.run("UPDATE noetl.result_ref SET ref = :ref", ref=one["ref"])
    read = await user.get("/api/result/resolve", ref=one["ref"])
    assert (read.status, read.json["code"]) == (409, "resource.conflict")
    for done, value in ((one, 1), (other, 2)):
        assert (await user.get("/api/result/resolve", ref=one["ref"], sha256=done["sha256"])).json == value
    assert (await user.call("DELETE", "/api/result", query={"ref": one["ref"]})).status == 409


REFUSED: tuple[tuple[Any, str], ...] = (
    ({"data": 1}, "name"),
    ({"name": "x"}, "data"),
    ({"name": "", "data": 1}, "name"),
    ({"name": "x" * 201, "data": 1}, "name"),
    ({"name": "x", "data": 1, "ttl": "soon"}, "ttl"),
    ({"name": "x", "data": 1, "ttl": 0}, "ttl"),
    ({"name": "x", "data": 1, "ttl": "400000d"}, "ttl"),
    ({"name": "x", "data": 1, "store": "memory"}, "store"),
    ({"name": "x", "data": 1, "scope": "global"}, "scope"),
    ({"name": "x", "data": 1, "extracted": {"a": "b" * 20_000}}, "extracted"),
    ({"name": "x", "data": 1, "correlation": {"a": "b" * 5_000}}, "correlation"),
    ({"name": "x", "data": 1, "key": "../../etc"}, "key"),
)


async def test_what_cannot_be_put_is_refused_and_leaves_nothing(user: Client, started: str, results_url: str) -> None:
    for body, said in REFUSED:
        answer = await put_json(user, started, body)
        assert answer.status == 400 and said in answer.json["detail"], answer.body
    assert objects(results_url) == []


async def test_unknown_executions_and_uris_are_refused(user: Client, started: str) -> None:
    assert (await put_json(user, "12345", {"name": "x", "data": 1})).status == 404
    assert (await put_json(user, "x", {"name": "x", "data": 1})).status == 404
    for path in ("/api/result/12345/list", "/api/result/12345/x"):
        assert (await user.get(path)).status == 404, path
    for path in ("/api/result/12345", "/api/result/12345/step/x"):
        assert (await user.delete(path)).status == 404, path
    for ref, status in (
        (f"noetl://execution/{started}/result/x/00000000", 404),
        ("noetl://execution/12345/result/x/00000000", 404),
        ("noetl://execution/99999999999999999999/result/x/00000000", 404),
        (f"noetl://execution/0{started}/result/x/00000000", 404),
        (f"noetl://execution/{started}/result/../00000000", 400),
        (f"noetl://execution/{started}/manifest/x/1", 400),
        ("file:///etc/passwd", 400),
    ):
        for method in ("GET", "DELETE"):
            path = "/api/result/resolve" if method == "GET" else "/api/result"
            answer = await user.call(method, path, query={"ref": ref})
            expected = (
                200 if method == "DELETE" and started in ref and "/result/x" in ref and "/0" not in ref[:20] else status
            )
            assert answer.status == expected, (method, ref, answer.body)
    assert (await user.get(f"/api/result/{started}/list", after="x")).status == 400


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("0001-01-01T00:00:00+23:59", 400),
        ("9999-12-31T23:59:59-23:59", 400),
        ("0001-01-01T23:59:00+23:59", 200),
        ("2026-01-01T00:00:00-23:59", 200),
        ("2026-01-01T00:00:00+00:00:01.5", 200),
        ("2026-01-01", 200),
        ("2026-W01", 200),
        ("soon", 400),
    ],
)
async def test_a_place_that_the_database_could_not_read_is_refused_or_said_otherwise(
    user: Client, started: str, at: str, status: int
) -> None:
    token = base64.urlsafe_b64encode(orjson.dumps(["", at, "k"])).decode().rstrip("=")
    for folder in ("result", "temp"):
        for answer in (
            await user.get(f"/api/{folder}/{started}/list", after=token),
            await user.get(f"/api/{folder}/{started}/list", after=token, step="a"),
            await user.call("DELETE", f"/api/{folder}/{started}", query={"after": token}),
        ):
            assert answer.status == status, answer.body
            assert status == 200 or "`after`" in answer.json["detail"]


async def test_a_worker_neither_puts_nor_reads_nor_deletes(worker: Client, user: Client, started: str) -> None:
    done = await put(user, started, "load", [1])
    assert (await put_json(worker, started, {"name": "x", "data": 1})).status == 403
    assert (await worker.get("/api/result/resolve", ref=done["ref"])).status == 403
    assert (await worker.call("DELETE", "/api/result", query={"ref": done["ref"]})).status == 403
    assert (await worker.delete(f"/api/result/{started}")).status == 403


async def test_what_has_ended_still_takes_results_which_are_not_collected_while_they_are_written(
    user: Client, started: str, database: Database, results_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await user.post(f"/api/executions/{started}/cancel", {})).status == 200
    put_before = FsspecResultStore.put
    named: list[set[str]] = []

    async def put_watched(self: FsspecResultStore, key: str, data: bytes) -> StoredObject:
        stored = await put_before(self, key, data)
        # the reconciler looks now
        named.append(await MaintenanceTasks(database).named_results(self.name, [key], GRACE_SECONDS))
        assert (await user.get(f"/api/result/{started}/list")).json["results"] == [], "nobody reads it yet"
        return stored

    monkeypatch.setattr(FsspecResultStore, "put", put_watched)
    done = await put(user, started, "note", "seen")
    assert [len(keys) for keys in named] == [1], "what has no row would be deleted"
    assert (await user.get("/api/result/resolve", ref=done["ref"])).json == "seen"
    again = await put(user, started, "note", "seen")
    assert (again["ref"], again["status"], len(objects(results_url))) == (done["ref"], "same", 1)
    rows = await database.run("SELECT count(*) FROM noetl.result_ref WHERE execution_id = :id", id=int(started))
    assert rows == [[1]]


async def test_what_has_ended_takes_no_result_that_would_go_with_its_end(user: Client, started: str) -> None:
    """The collection has passed it, or is about to, and comes back to it only when the others go."""
    running = await put(user, started, "note", "while it runs", scope="step")
    assert (await user.post(f"/api/executions/{started}/cancel", {})).status == 200
    for answer in (
        await put_json(user, started, {"name": "note", "data": "afterwards", "scope": "step"}),
        await put_json(user, started, {"name": "note", "data": "while it runs", "scope": "step"}),
        await put_content(user, started, "note", [b"x"], scope="step"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "resource.conflict")
        assert "scope" in answer.json["detail"]
    listed = (await user.get(f"/api/result/{started}/list")).json["results"]
    assert [row["ref"] for row in listed] == [running["ref"]]
    await put(user, started, "note", "afterwards", scope="execution")
