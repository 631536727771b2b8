"""Results of which something was accumulated: only what a worker has stored is read as a manifest, and what it names
are objects of its own execution."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.control_plane.conftest import Answer, Client, FakeWorker
from tests.integration.control_plane.test_put_results import objects, put_content

from noetl_serverless.control_plane import accumulated, accumulated_response, converted, stored_value
from noetl_serverless.playbook.views import COLLECTED
from noetl_serverless.results.accumulated import MANIFEST_TYPE
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.database import Database
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import MANIFEST_WITH_TABLES, MEDIA_TYPES
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import MEDIA_TYPE, write_table
from noetl_serverless.tables.table import Table

ALWAYS = Output(inline_bytes=-1)


class Stored:
    """What a worker has stored, whether it is right or not."""

    def __init__(self, execution_id: str, results_url: str) -> None:
        self.execution_id = execution_id
        self.stores = ResultStores(FsspecResultStore(results_url))
        self.folder = Path(results_url.removeprefix("file://"))

    async def ref(self, value: Any, suffix: str, execution_id: str | None = None) -> dict[str, Any]:
        place = Place(execution_id=execution_id or self.execution_id, step="first", suffix=suffix)
        files = ResultFiles(self.folder)
        return (await externalise(value, place, self.stores, ALWAYS, files))["ref"]  # type: ignore[no-any-return]

    async def parts(self, values: list[Any], execution_id: str | None = None) -> list[dict[str, Any]]:
        refs = [await self.ref(value, f"part {index}", execution_id) for index, value in enumerate(values)]
        return [{"ref": ref, "index": index, "count": 1, "bytes": 10, "level": 0} for index, ref in enumerate(refs)]

    def manifest(self, parts: Any, strategy: str = "concat", **changes: Any) -> dict[str, Any]:
        name = f"noetl://execution/{self.execution_id}/manifest/first/1"
        return {
            "kind": "accumulated",
            "ref": name,
            "strategy": strategy,
            "parts": parts,
            "total_bytes": 10,
            **changes,
        }


@pytest.fixture
def stored(started: str, results_url: str) -> Stored:
    return Stored(started, results_url)


async def report(hands: FakeWorker, stored: Stored, document: Any) -> dict[str, Any]:
    (command,) = await hands.claim()
    ref = await stored.ref(document, "whole")
    is_table = ref["meta"]["content_type"] == MEDIA_TYPE
    ref["meta"]["content_type"] = MANIFEST_WITH_TABLES if is_table else MANIFEST_TYPE
    await hands.report(command, ref=ref)
    return ref


async def read(user: Client, stored: Stored) -> Answer:
    return await user.get(f"/api/result/{stored.execution_id}/first", resolve="true")


async def test_what_a_worker_has_stored_is_one_value(user: Client, hands: FakeWorker, stored: Stored) -> None:
    values: list[list[Any]] = [[1, {"a": None}], ["b" * 2_000_000], [[]]]
    document = {"rest": {"status": "ok"}, COLLECTED: {"pages": stored.manifest(await stored.parts(values))}}
    await report(hands, stored, document)
    answer = await read(user, stored)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"status": "ok", "pages": [item for value in values for item in value]}


def small(*numbers: int | str) -> Table:
    # narrow, so that a table that was made of rows has another type
    kind = pa.int8() if isinstance(numbers[0], int) else pa.string()
    descriptor = memory_file()
    return Table(MappedFile(descriptor, write_table(descriptor, pa.table({"n": pa.array(numbers, kind)})).bytes))


async def test_beside_what_was_accumulated_there_are_tables(user: Client, hands: FakeWorker, stored: Stored) -> None:
    """As a pipeline has it, of whose pages the last is a part of the result as well."""
    parts = await stored.parts([small(1, 2), small(3)])
    rest = {"results": {"page": {"rows": small(3), "page": 2}}}
    await report(hands, stored, {"rest": rest, COLLECTED: {"all": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    expected = {"results": {"page": {"rows": [{"n": 3}], "page": 2}}, "all": [{"n": 1}, {"n": 2}, {"n": 3}]}
    for headers in ({}, {"accept": "application/json"}, {"accept": "*/*"}):
        answer = await user.call("GET", path, headers=headers)
        assert (answer.status, answer.json, answer.headers["content-type"]) == (200, expected, "application/json")
    csv = {"accept": "text/csv"}
    assert (await user.call("GET", f"{path}&table=all", headers=csv)).body == b'"n"\n1\n2\n3\n'
    assert (await user.call("GET", f"{path}&table=results.page.rows", headers=csv)).body == b'"n"\n3\n'
    assert (await user.call("GET", path, headers=csv)).body == b'"n"\n1\n2\n3\n', "it is another table"
    arrow = await user.call("GET", f"{path}&table=all", headers={"accept": MEDIA_TYPES["arrow"]})
    columns = pa.ipc.open_stream(arrow.body).read_all()
    assert (columns.schema.field("n").type, columns.num_rows) == (pa.int8(), 3), "it was made of rows"
    head = await user.call("HEAD", path)
    assert (head.status, head.headers["content-type"]) == (200, "application/json")


async def test_without_a_name_what_was_accumulated_is_given_and_not_the_last_page(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    parts = await stored.parts([small(1, 2), small(3)])
    await report(hands, stored, {"rest": {"rows": small(3)}, COLLECTED: {"äll": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    assert (await user.call("GET", path, headers={"accept": "text/csv"})).body == b'"n"\n1\n2\n3\n'
    lines = await user.call("GET", path, headers={"accept": "application/x-ndjson"})
    assert [orjson.loads(line)["n"] for line in lines.body.splitlines()] == [1, 2, 3]
    parquet = await user.call("GET", path, headers={"accept": MEDIA_TYPES["parquet"]})
    assert pq.read_metadata(io.BytesIO(parquet.body)).num_rows == 3
    named = await user.call("GET", f"{path}&table=rows", headers={"accept": "text/csv"})
    assert named.body == b'"n"\n3\n'
    for method in ("GET", "HEAD"):
        answer = await user.call(method, path)
        assert answer.headers["noetl-accumulated"] == "%C3%A4ll", (
            "whoever converts the JSON does not know what is meant"
        )


async def test_of_several_fields_that_were_accumulated_one_is_named(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    collected = {name: stored.manifest(await stored.parts([small(1)])) for name in ("a", "b")}
    await report(hands, stored, {"rest": {"rows": small(3)}, COLLECTED: collected})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    refused = await user.call("GET", path, headers={"accept": "text/csv"})
    assert (refused.status, refused.json["tables"]) == (400, ["rows", "a", "b"]), refused.body
    assert "2 fields were accumulated: a, b" in refused.json["detail"]
    assert (await user.call("GET", path)).headers["noetl-accumulated"] == "a,b"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/csv;q=0.1, */*", "text/csv"])
async def test_what_names_the_parts_is_read_once_and_not_for_what_is_known(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch, accept: str | None
) -> None:
    parts = await stored.parts([small(1)])
    await report(hands, stored, {"rest": {"t": small(1)}, COLLECTED: {"all": stored.manifest(parts)}})
    count = 0

    def counted(*arguments: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        return accumulated.document_of(*arguments)

    monkeypatch.setattr(accumulated_response, "document_of", counted)
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    headers = {} if accept is None else {"accept": accept}
    answer = await user.call("GET", path, headers=headers)
    assert (answer.status, count) == (200, 1), f"it is read {count} times"
    if accept == "text/csv":
        return
    again = await user.call("GET", path, headers={**headers, "if-none-match": answer.headers["etag"]})
    assert (again.status, count) == (304, 1), "it is read though nothing has changed"


def categories(page: int) -> Table:
    """As pandas makes them: numbers of eight bits count those of one page, and not those of two."""
    names = pa.array([f"city {page} {number}" for number in range(80)])
    descriptor = memory_file()
    column = pa.DictionaryArray.from_arrays(pa.array(range(80), pa.int8()), names)
    return Table(MappedFile(descriptor, write_table(descriptor, pa.table({"city": column})).bytes))


async def test_pages_with_categories_of_their_own_are_one_table_in_each_form(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    parts = await stored.parts([categories(page) for page in range(2)])
    await report(hands, stored, {"rest": {}, COLLECTED: {"all": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    expected = [f"city {page} {number}" for page in range(2) for number in range(80)]
    csv = await user.call("GET", path, headers={"accept": "text/csv"})
    assert csv.body.decode().replace('"', "").splitlines() == ["city", *expected]
    arrow = await user.call("GET", path, headers={"accept": MEDIA_TYPES["arrow"]})
    assert pa.ipc.open_stream(arrow.body).read_all()["city"].to_pylist() == expected
    parquet = await user.call("GET", path, headers={"accept": MEDIA_TYPES["parquet"]})
    assert pq.read_table(io.BytesIO(parquet.body))["city"].to_pylist() == expected
    assert (await user.get(path)).json == {"all": [{"city": name} for name in expected]}


def without_json() -> Table:
    """A document that is none, behind what a preview shows."""
    descriptor = memory_file()
    schema = pa.schema([field_of("j", pa.string(), "json")])
    written = write_table(descriptor, pa.table([pa.array(["1"] * 500 + ["{"])], schema=schema))
    return Table(MappedFile(descriptor, written.bytes))


@pytest.mark.parametrize("where", ["rest", "parts", "merged"])
@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
async def test_a_table_that_has_no_json_is_not_acceptable(
    user: Client, hands: FakeWorker, stored: Stored, where: str, accept: str
) -> None:
    rest = {"t": without_json()} if where == "rest" else {}
    values: list[Any] = [[{"a": 1}], without_json()] if where == "parts" else [[{"a": 1}]]
    manifest = stored.manifest(await stored.parts(values))
    if where == "merged":
        manifest = stored.manifest(await stored.parts([{"t": without_json()}]), "merge")
    await report(hands, stored, {"rest": rest, COLLECTED: {"all": manifest}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    table = "&table=t" if where == "rest" and accept == "text/csv" else ""
    answer = await user.call("GET", path + table, headers={"accept": accept})
    assert (answer.status, answer.json["code"]) == (406, "request.not_acceptable"), answer.body


async def test_parts_of_a_list_that_are_no_lists_are_reported_as_changed(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    parts = await stored.parts([[{"a": 1}], {"a": 7}])
    await report(hands, stored, {"rest": {}, COLLECTED: {"all": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    assert_changed(await user.call("GET", path, headers={"accept": "text/csv"}))


async def test_a_changed_table_beside_what_was_accumulated_is_reported(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    parts = await stored.parts([small(1)])
    ref = await report(hands, stored, {"rest": {"t": small(77)}, COLLECTED: {"all": stored.manifest(parts)}})
    path = stored.folder / ref["key"]
    path.write_bytes(path.read_bytes().replace(b"\x4d\0\0", b"\x4e\0\0"))
    assert_changed(await read(user, stored))


async def test_results_with_tables_that_were_appended_are_read(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await stored.parts([[{"t": small(1), "x": 1}], [{"t": small(2), "x": 2}], [{"x": 3}]])
    await report(hands, stored, {"rest": {}, COLLECTED: {"all": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    expected = [{"t": [{"n": 1}], "x": 1}, {"t": [{"n": 2}], "x": 2}, {"x": 3}]
    assert (await user.get(path)).json == {"all": expected}
    lines = await user.call("GET", f"{path}&table=all", headers={"accept": "application/x-ndjson"})
    assert [orjson.loads(line) for line in lines.body.splitlines()] == expected
    csv = await user.call("GET", f"{path}&table=all.1.t", headers={"accept": "text/csv"})
    assert csv.body == b'"n"\n2\n'


async def test_tables_of_several_schemas_are_one_list_up_to_a_limit(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await stored.parts([small(1), small("a"), [{"n": None}]])
    await report(hands, stored, {"rest": {}, COLLECTED: {"all": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    lines = await user.call("GET", path, headers={"accept": "application/x-ndjson"})
    assert [orjson.loads(line) for line in lines.body.splitlines()] == [{"n": 1}, {"n": "a"}, {"n": None}]
    opened: list[Any] = []
    monkeypatch.setattr(ResultFiles, "open_on_disk", lambda files: opened.append(files) or memory_file())
    await user.call("GET", path, headers={"accept": "application/x-ndjson"})
    assert len(opened) == 2, "tables that become lists are written to files once more"
    monkeypatch.setattr(stored_value, "LISTED_BYTES", 10)
    refused = await user.call("GET", path, headers={"accept": "application/x-ndjson"})
    assert (refused.status, refused.json["code"]) == (400, "answer.too_large"), refused.body
    assert (await user.get(path)).json == {"all": [{"n": 1}, {"n": "a"}, {"n": None}]}


@pytest.mark.parametrize(
    "content_type",
    [
        MANIFEST_WITH_TABLES,
        MANIFEST_TYPE,
        f"{MANIFEST_TYPE}; charset=utf-8",
        "Application/VND.noetl.Manifest+JSON ;a=b",
    ],
)
@pytest.mark.parametrize("folder", ["result", "temp"])
async def test_a_user_puts_no_manifest(
    user: Client, started: str, results_url: str, folder: str, content_type: str
) -> None:
    refused = await user.call(
        "PUT", f"/api/{folder}/{started}", [b"[]"], query={"name": "x"}, headers={"content-type": content_type}
    )
    assert (refused.status, refused.json["code"]) == (415, "request.unsupported_type")
    assert "application/vnd.noetl.manifest+" in refused.json["detail"] and "application/json" in refused.json["detail"]
    assert objects(results_url) == []


async def test_what_a_user_has_put_is_no_manifest_whatever_its_type_says(
    user: Client, stored: Stored, started: str, database: Database
) -> None:
    """As a release before may have taken it."""
    secret = await stored.parts([["of another execution"]], "12345")
    document = {"rest": {}, COLLECTED: {"pages": stored.manifest(secret)}}
    content = orjson.dumps(document)
    for body in (content, b"[]", b"null", b"junk", b"{}", b""):
        done = (await put_content(user, started, "x", [body], "text/plain")).json
        await database.run(
            "UPDATE noetl.result_ref SET content_type = :type WHERE ref = :ref", type=MANIFEST_TYPE, ref=done["ref"]
        )
        answer = await user.get("/api/result/resolve", ref=done["ref"])
        assert (answer.status, answer.body) == (200, body), "it is given as it was put"


BROKEN: Sequence[tuple[str, Any]] = (
    ("a list", []),
    ("a list of manifests", [{COLLECTED: {}}]),
    ("nothing", {}),
    ("no rest", {"rest": 1, COLLECTED: {}}),
    ("no manifest", {"rest": {}, COLLECTED: {"a": 1}}),
    ("no object of manifests", {"rest": {}, COLLECTED: [1]}),
)


@pytest.mark.parametrize("document", [document for _, document in BROKEN], ids=[name for name, _ in BROKEN])
async def test_a_document_that_is_none_is_reported_as_changed(
    user: Client, hands: FakeWorker, stored: Stored, document: Any
) -> None:
    await report(hands, stored, document)
    assert_changed(await read(user, stored))


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": 1},
        {"parts": [1]},
        {"parts": [{"ref": {}, "level": 0}]},
        {"strategy": None},
        {"ref": "x"},
        {"ref": "noetl://execution/12345/manifest/first/1"},
        {"total_bytes": None},
    ],
    ids=str,
)
async def test_a_manifest_of_another_form_is_reported_as_changed(
    user: Client, hands: FakeWorker, stored: Stored, changes: dict[str, Any]
) -> None:
    manifest = {**stored.manifest(await stored.parts([[1]])), **changes}
    await report(hands, stored, {"rest": {}, COLLECTED: {"pages": manifest}})
    assert_changed(await read(user, stored))


@pytest.mark.parametrize("strategy", ["concat", "merge"])
@pytest.mark.parametrize("level", [0, 1])
async def test_parts_of_other_executions_are_not_read(
    user: Client, hands: FakeWorker, stored: Stored, strategy: str, level: int
) -> None:
    value = {"a": "secret"} if strategy == "merge" else ["secret"]
    parts = await stored.parts([value], "12345")
    if level:
        parts = [{"ref": await stored.ref(parts, "list"), "index": 0, "count": 1, "bytes": 1, "level": 1}]
    await report(hands, stored, {"rest": {}, COLLECTED: {"pages": stored.manifest(parts, strategy)}})
    answer = await read(user, stored)
    assert_changed(answer)
    assert b"secret" not in answer.body


async def test_a_part_that_is_a_manifest_of_another_execution_is_not_read(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    name = "noetl://execution/12345/manifest/first/1"
    inner = stored.manifest(await stored.parts([["secret"]], "12345"), ref=name, key=f"{stored.execution_id}/x")
    (part,) = await stored.parts([[1]])
    document = {"rest": {}, COLLECTED: {"pages": stored.manifest([{**part, "ref": inner}])}}
    await report(hands, stored, document)
    answer = await read(user, stored)
    assert_changed(answer)
    assert b"secret" not in answer.body


@pytest.mark.parametrize("strategy", ["concat", "merge"])
async def test_a_part_that_was_changed_or_is_gone_is_reported(
    user: Client, hands: FakeWorker, stored: Stored, strategy: str
) -> None:
    value: Any = {"a": 1} if strategy == "merge" else [7, 8]
    (part,) = await stored.parts([value])
    await report(hands, stored, {"rest": {}, COLLECTED: {"pages": stored.manifest([part], strategy)}})
    path = stored.folder / part["ref"]["key"]
    path.write_bytes(path.read_bytes().replace(b"7", b"9").replace(b"a", b"b"))
    assert_changed(await read(user, stored))
    path.unlink()
    answer = await read(user, stored)
    assert (answer.status, answer.json["reason"]) == (404, "missing")


async def test_objects_are_merged_up_to_a_limit(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accumulated, "MERGED_BYTES", 20_000)
    (part,) = await stored.parts([{"a": "b" * 5_000}])
    whole = {"rest": {}, COLLECTED: {"pages": stored.manifest([part] * 3, "merge")}}
    ref = await report(hands, stored, whole)
    assert (await read(user, stored)).json == {"pages": {"a": "b" * 5_000}}
    monkeypatch.setattr(accumulated, "MERGED_BYTES", 12_000)
    # its own word for its size is not all that counts
    for size in (10, 15_000):
        document = {"rest": {}, COLLECTED: {"pages": stored.manifest([part] * 3, "merge", total_bytes=size)}}
        monkeypatch.setattr(accumulated, "document_of", lambda *_, document=document: document)
        refused = await user.get("/api/result/resolve", ref=ref["ref"])
        assert (refused.status, refused.json["code"]) == (400, "answer.too_large")
        assert "read the parts" in refused.json["detail"] and refused.json["max_bytes"] == 12_000


def assert_changed(answer: Answer) -> None:
    assert (answer.status, answer.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE"), answer.body
    assert answer.json["reason"] == "changed", answer.body


async def test_it_is_had_in_each_form_and_as_a_table(user: Client, hands: FakeWorker, stored: Stored) -> None:
    rows = [{"n": n} for n in range(5)]
    values = [rows[:2], rows[2:]]
    parts = await stored.parts(values)
    await report(hands, stored, {"rest": {"count": 5}, COLLECTED: {"rows": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    csv = await user.call("GET", path, headers={"accept": "text/csv"})
    assert (csv.status, csv.body) == (200, b'"n"\n0\n1\n2\n3\n4\n')
    lines = await user.call("GET", path, headers={"accept": "application/x-ndjson"})
    assert [orjson.loads(line) for line in lines.body.splitlines()] == rows
    assert (await user.call("GET", f"{path}&table=rows", headers={"accept": "application/json"})).json == rows
    whole = await user.get(path)
    assert whole.headers["etag"] != csv.headers["etag"], "two contents have one tag"
    for headers in ({}, {"accept": "text/csv"}):
        head = await user.call("HEAD", path, headers=headers)
        assert (head.status, head.headers.get("content-length")) == (200, None), "a length is said that is not known"


async def test_what_is_too_large_to_be_converted_is_had_as_json_alone(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "MAX_JSON_BYTES", 8)
    parts = await stored.parts([[{"n": 1}]])
    await report(hands, stored, {"rest": {}, COLLECTED: {"rows": stored.manifest(parts)}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    refused = await user.call("GET", path, headers={"accept": "text/csv"})
    assert (refused.status, refused.json["available"]) == (406, ["application/json"]), refused.body
    assert str(converted.MAX_JSON_BYTES) in refused.json["detail"]
    assert (await user.get(path)).json == {"rows": [{"n": 1}]}


async def test_its_parts_are_listed_with_its_step_and_deleted_with_it(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    parts = await stored.parts([[1], [2], [3]])
    (command,) = await hands.claim()
    whole = await stored.ref({"rest": {}, COLLECTED: {"pages": stored.manifest(parts)}}, "whole")
    await hands.report(command, ref=whole, parts=[{**part["ref"], "part_of": "pages"} for part in parts])
    kept = (await put_content(user, stored.execution_id, "other", [b"x"], "text/plain")).json["ref"]
    path = f"/api/result/{stored.execution_id}"
    listed = (await user.get(f"{path}/list", step="first")).json["results"]
    assert [(row["name"], row["step"]) for row in listed] == [("first", "first")] * 4
    paged = (await user.get(f"{path}/list", step="first", limit=2)).json
    rest = (await user.get(f"{path}/list", step="first", limit=2, after=paged["next"])).json
    assert [*paged["results"], *rest["results"]] == listed, "a page gives other rows than the list"
    assert (await user.delete(f"{path}/step/first")).json["deleted_count"] == 4
    assert [row["ref"] for row in (await user.get(f"{path}/list")).json["results"]] == [kept]
    assert len(objects(stored.folder.as_uri())) == 1, "an object is left"
