"""Results as they are read over REST: of any size, and in the form that Accept names."""

from __future__ import annotations

import io
import shutil
import tempfile
from typing import Any
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.integration.control_plane.conftest import Answer, Client, FakeWorker
from tests.integration.control_plane.test_put_results import put, put_content

from noetl_serverless.control_plane import result_puts, stored_value
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tables.media_types import MEDIA_TYPES
from noetl_serverless.tables.stream import in_field, write_table

PARENT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parent, path: demo/parent}
workflow: [{step: call, tool: {kind: playbook, path: demo/two}}]
"""
ROWS = [{"n": n, "text": f"ü{n}", "list": [n]} for n in range(3000)]


def stream(rows: list[dict[str, Any]], value: Any = None) -> bytes:
    with tempfile.TemporaryFile() as file:
        write_table(file.fileno(), pa.Table.from_pylist(rows), value)
        file.seek(0)
        return bytes(file.read())


async def read(client: Client, ref: str, accept: str | None = None, **query: Any) -> Answer:
    headers = {} if accept is None else {"accept": accept}
    return await client.call("GET", "/api/result/resolve", query={"ref": ref, **query}, headers=headers)


@pytest.fixture
async def table(user: Client, started: str) -> str:
    """The URI of rows in a field of a result."""
    done = await put_content(user, started, "load", [stream(ROWS, in_field("rows", {"count": 3}))])
    return str(done.json["ref"])


async def test_a_small_result_is_read_by_its_step_as_a_large_one_is(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    missing = await user.get(f"/api/result/{started}/first", resolve="true")
    assert (missing.status, "has not ended" in missing.json["detail"]) == (404, True)
    unknown = await user.get(f"/api/result/{started}/frist")
    assert (unknown.status, "no such step. There are first, second" in unknown.json["detail"]) == (404, True)
    (command,) = await hands.claim()
    report = await hands.report(command, data={"n": 1})
    entry = (await user.get(f"/api/result/{started}/first")).json
    assert (entry["kind"], entry["ref"], entry["data"], entry["bytes"]) == ("inline", None, {"n": 1}, 7)
    whole = await user.get(f"/api/result/{started}/first", resolve="true")
    assert (whole.body, whole.headers["content-type"]) == (b'{"n":1}', "application/json")
    assert whole.headers["etag"] == f'"{entry["sha256"]}"'
    (second,) = report["commands"]
    stored = await externalise([1] * 50_000, Place(execution_id=started, step="second", suffix="x"), stores)
    await hands.report(second, **stored)
    entry = (await user.get(f"/api/result/{started}/second")).json
    assert (entry["kind"], entry["ref"]) == ("result_ref", stored["ref"]["ref"])
    assert (await user.get(f"/api/result/{started}/second", resolve="true")).json == [1] * 50_000
    assert (await user.get(f"/api/result/{started}/third")).status == 404


async def test_what_is_null_is_read_and_of_what_failed_it_is_said(
    user: Client, hands: FakeWorker, started: str
) -> None:
    (command,) = await hands.claim()
    report = await hands.report(command, data=None)
    assert (await user.get(f"/api/result/{started}/first", resolve="true")).body == b"null"
    (second,) = report["commands"]
    await hands.report(second, status="error", error={"kind": "tool", "code": "x.y", "message": "no"})
    failed = await user.get(f"/api/result/{started}/second")
    assert (failed.status, "it failed" in failed.json["detail"]) == (404, True)


async def test_of_a_step_that_a_failure_has_kept_from_running_it_is_said(
    user: Client, hands: FakeWorker, started: str
) -> None:
    (command,) = await hands.claim()
    await hands.report(command, status="error", error={"kind": "tool", "code": "x.y", "message": "no"})
    never = await user.get(f"/api/result/{started}/second")
    assert (never.status, "before the execution ended (failed)" in never.json["detail"]) == (404, True), never.json


async def test_a_variable_that_a_step_has_stored_is_not_its_result(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    large = await externalise([2] * 50_000, Place(execution_id=started, step="first", suffix="set"), stores)
    await hands.report(command, data=5, set_refs={"big": large["ref"]})
    assert (await user.get(f"/api/result/{started}/first")).json["data"] == 5


@pytest.mark.parametrize("form", MEDIA_TYPES)
async def test_a_table_is_read_in_each_form_that_accept_names(user: Client, table: str, form: str) -> None:
    answer = await read(user, table, MEDIA_TYPES[form])  # type: ignore[index]
    assert (answer.status, answer.headers["content-type"]) == (200, MEDIA_TYPES[form])  # type: ignore[index]
    assert answer.headers["vary"] == "accept"
    match form:
        case "arrow":
            # as it is stored, with its length
            assert answer.headers["content-length"] == str(len(answer.body))
            assert pa.ipc.open_stream(answer.body).read_all().to_pylist() == ROWS
        case "json":
            assert answer.json == {"count": 3, "rows": ROWS}
        case "ndjson":
            assert [orjson.loads(line) for line in answer.body.splitlines()] == ROWS
        case "csv":
            assert pyarrow.csv.read_csv(io.BytesIO(answer.body)).num_rows == len(ROWS)
            assert answer.headers["content-disposition"].endswith("load.csv")
        case "parquet":
            assert pyarrow.parquet.read_table(io.BytesIO(answer.body)).to_pylist() == ROWS


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("*/*", "arrow"),
        ("text/html, */*;q=0.1", "arrow"),
        ("text/*", "csv"),
        ("application/json;q=0.5, text/csv;q=0.9, */*;q=0.1", "csv"),
        ("application/json;q=0.9, text/csv;q=0.5", "json"),
        ("text/csv;q=0, application/x-ndjson", "ndjson"),
    ],
)
async def test_of_what_accept_names_the_best_is_given(user: Client, table: str, accept: str, wanted: Any) -> None:
    assert (await read(user, table, accept)).headers["content-type"] == MEDIA_TYPES[wanted]


async def test_what_cannot_be_had_is_refused_with_what_can(user: Client, started: str, table: str) -> None:
    refused = await read(user, table, "image/png")
    assert (refused.status, refused.headers["content-type"]) == (406, "application/problem+json")
    assert (refused.json["code"], refused.json["available"]) == ("request.not_acceptable", list(MEDIA_TYPES.values()))
    text = await put_content(user, started, "text", [b"seen"], "text/plain; charset=utf-8")
    assert (await read(user, text.json["ref"], "text/plain")).body == b"seen"
    refused = await read(user, text.json["ref"], "text/csv")
    assert (refused.status, refused.json["available"]) == (406, ["text/plain"])
    # no table, which is only seen as it is read
    number = await put(user, started, "number", 5)
    refused = await read(user, number["ref"], "text/csv")
    assert (refused.status, refused.json["available"]) == (406, ["application/json"])
    assert "no table" in refused.json["detail"]
    assert (await read(user, number["ref"], "text/csv, */*;q=0.1")).body == b"5"
    # what says of itself that it is Arrow
    wrong = await put_content(user, started, "wrong", [b"no arrow"])
    assert (await read(user, wrong.json["ref"], "text/csv")).status == 406
    mixed = await put(user, started, "mixed", [{"a": 1}, {"a": "x"}])
    refused = await read(user, mixed["ref"], "application/vnd.apache.parquet")
    assert (refused.status, "column 'a': int in row 0, str in row 1" in refused.json["detail"]) == (406, True)
    assert (await read(user, mixed["ref"], "text/csv")).body == b'"a"\n1\n"x"\n'


async def test_what_is_beside_a_table_is_read_up_to_a_limit(
    user: Client, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_value, "MAX_JSON_BYTES", 20)
    for form in ("json", "csv"):
        refused = await read(user, table, MEDIA_TYPES[form])
        assert (refused.status, refused.json["available"]) == (406, [MEDIA_TYPES["arrow"]]), refused.body
        assert "beside its tables it has 56 bytes of JSON, and up to 20 are read" in refused.json["detail"]
    assert (await read(user, table)).headers["content-type"] == MEDIA_TYPES["arrow"]


async def test_what_is_nested_too_deeply_to_be_converted_is_not_acceptable(user: Client, started: str) -> None:
    deep = b'{"a":[{"b":' + b"[" * 1000 + b"]" * 1000 + b"}]}"
    done = await put_content(user, started, "deep", [deep], "application/json")
    refused = await read(user, done.json["ref"], MEDIA_TYPES["parquet"])
    assert (refused.status, refused.json["code"]) == (406, "request.not_acceptable"), refused.body
    assert "nested too deeply" in refused.json["detail"]
    assert (await read(user, done.json["ref"])).body == deep


async def test_one_of_several_tables_is_chosen(user: Client, started: str) -> None:
    several = await put(user, started, "several", {"a": [{"x": 1}], "b": {"c": [{"y": 2}]}})
    refused = await read(user, several["ref"], "text/csv")
    assert (refused.status, refused.json["tables"]) == (400, ["a", "b.c"])
    assert "`table`" in refused.json["detail"]
    assert (await read(user, several["ref"], "text/csv", table="b.c")).body == b'"y"\n2\n'
    assert (await read(user, several["ref"], table="a")).json == [{"x": 1}]
    unknown = await read(user, several["ref"], "text/csv", table="d")
    assert (unknown.status, "there are a, b.c" in unknown.json["detail"]) == (400, True)
    ref = quote(several["ref"], safe="")
    head = await user.call("HEAD", f"/api/result/resolve?ref={ref}&table=a", headers={"accept": "text/csv"})
    assert (head.status, head.headers["content-type"], head.body) == (200, "text/csv", b"")


async def test_a_small_result_of_a_step_is_a_table_too(user: Client, hands: FakeWorker, started: str) -> None:
    (command,) = await hands.claim()
    await hands.report(command, data={"rows": [{"x": 1, "y": "a"}]})
    path = f"/api/result/{started}/first"
    answer = await user.call("GET", path, query={"resolve": "true"}, headers={"accept": "text/csv"})
    assert (answer.body, answer.headers["content-type"]) == (b'"x","y"\n1,"a"\n', "text/csv")
    again = await user.call(
        "GET", f"{path}?resolve=true", headers={"accept": "text/csv", "if-none-match": answer.headers["etag"]}
    )
    assert again.status == 304


async def test_a_list_says_of_what_steps_have_stored_what_their_references_say(
    user: Client, hands: FakeWorker, started: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    place = Place(execution_id=started, step="first", suffix="x")
    value = {"n": 5, "rows": [{"a": n} for n in range(30_000)]}
    stored = (await externalise(value, place, stores, Output(select=[("$.rows[2].a", "third")], compression="zstd")))[
        "ref"
    ]
    large = (await externalise([2] * 50_000, place, stores))["ref"]
    part = (await externalise([3] * 50_000, Place(execution_id=started, step="first", suffix="part"), stores))["ref"]
    await hands.report(command, ref=stored, set_refs={"big": large}, parts=[{**part, "part_of": "pages"}])
    shutil.rmtree(results_url.removeprefix("file://"))
    listed = {row["ref"]: row for row in (await user.get(f"/api/result/{started}/list")).json["results"]}
    assert listed.keys() == {stored["ref"], large["ref"], part["ref"]}, "no object is opened for that"
    entry = listed[stored["ref"]]
    assert (entry["extracted"], entry["row_count"]) == ({"n": 5, "third": 2}, 30_000)
    assert (entry["compression"], entry["stored_bytes"]) == ("zstd", stored["meta"]["stored_bytes"])
    assert all(row["preview"] and row["stored_bytes"] <= row["bytes"] for row in listed.values())


async def test_what_a_sub_playbook_has_stored_is_the_result_of_the_step_above(
    user: Client, hands: FakeWorker, registered: dict[str, Any], results_url: str
) -> None:
    await user.post("/api/catalog/register", {"content": PARENT})
    id = str((await user.post("/api/execute", {"path": "demo/parent"})).json["execution_id"])
    stores = ResultStores(FsspecResultStore(results_url))
    rows = [{"n": n} for n in range(30_000)]
    (command,) = await hands.claim()
    call = {"child": {"path": "demo/two", "payload": {}}, "resume": {"task": "call"}}
    commands = (await hands.report(command, status="parked", **call))["commands"]
    ref: Any = None
    while commands:
        command = commands.pop()
        if command["execution_id"] != id:
            place = Place(execution_id=command["execution_id"], step=command["step"], suffix="x")
            ref = (await externalise(rows, place, stores))["ref"]
        # the step above has what the execution below has ended with
        commands += (await hands.report(command, ref=ref))["commands"] or await hands.claim()
    entry = await user.get(f"/api/result/{id}/call")
    assert (entry.status, entry.json.get("ref")) == (200, ref["ref"]), entry.body
    assert entry.json["row_count"] == 30_000
    assert id not in entry.json["ref"], "it is that of the execution below"
    assert (await user.get(f"/api/result/{id}/call", resolve="true")).json == rows


async def test_what_is_put_as_json_is_json(user: Client, started: str) -> None:
    for kind in ("application/json", "Application/JSON; charset=utf-8"):
        refused = await put_content(user, started, "bad", [b'{"a":\n', b" 1,}"], kind)
        assert (refused.status, "nothing was stored" in refused.json["detail"]) == (400, True), refused.body
        assert (refused.json["errors"][0]["line"], refused.json["errors"][0]["column"]) == (2, 3)
    assert (await put_content(user, started, "bad", [b'{"a":'], "text/plain")).status == 200
    assert (await user.get(f"/api/result/{started}/list", name="bad")).json["results"][0][
        "content_type"
    ] == "text/plain"


async def test_json_that_is_large_is_not_looked_at(user: Client, started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_puts, "LOOKED_AT_BYTES", 10)
    assert (await put_content(user, started, "large", [b"[1, 2, 3", b", 4, 5"], "application/json")).status == 200
