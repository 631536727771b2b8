"""Names, filters and cursors that are SQL, paths or something else: each is a name that nothing has, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.results.reference import ResultUri, storage_key
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.database import Database

from .conftest import FUZZ, Client, Snapshot

SQL = [
    "' OR '1'='1",
    "'; DROP TABLE noetl.event; --",
    "1; DELETE FROM noetl.execution",
    "1 UNION SELECT * FROM noetl.credential",
    "\\'; SELECT pg_sleep(60); --",
    "$$; SELECT 1; $$",
    ":name",
    "%(x)s",
    "%s",
    "%",
    "_",
]
PATHS = ["..", "../x", "../../etc/passwd", "/etc/passwd", "a/../../b", "./x", "~root", "file:///etc/passwd", "x\\..\\y"]
ODD = [*SQL, *PATHS, "{{ 7 * 7 }}", "\u202e", "x" * 5000, "-1", "1e3", "0x10", "１", "null", "[]"]


async def test_no_name_in_a_path_is_more_than_a_name(user: Client, started: str, rows: Snapshot) -> None:
    operator, before = user.of("operator"), await rows()
    for operation in OPERATIONS:
        if "{" not in operation.path:
            continue
        for odd in ODD:
            given = quote(odd, safe="").replace("%", "%25") if "/" in odd else odd
            path = re.sub(r"\{\w+(:path)?\}", given.replace("\\", r"\\"), operation.path)
            answer = await operator.call(operation.method, path, b"{}")
            # to a webhook that is unknown nobody says so
            refused = (401,) if operation.name == "receiveWebhook" else (400, 404, 405)
            assert answer.status in refused, (operation.name, odd, answer.body)
    assert await rows() == before


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/executions", ("page", "before", "status", "path", "parent_execution_id")),
        ("/api/credentials", ("type", "q", "limit", "offset")),
        ("/api/schedules", ("path", "enabled", "limit")),
        ("/api/archives", ("ids", "before", "limit")),
        ("/api/executions/{}/events", ("after", "event_type", "limit")),
        ("/api/aggregate/loop/results", ("execution_id", "step_name")),
        ("/api/replay/state", ("execution_id", "as_of_time", "projection")),
        ("/api/results/data/{}", ("key", "offset")),
    ],
)
async def test_no_filter_finds_more_than_it_says(
    user: Client, started: str, rows: Snapshot, path: str, names: tuple[str, ...]
) -> None:
    await user.post("/api/credentials", {"name": "c", "type": "t", "data": {"password": "hidden"}})
    before = await rows()
    for name in names:
        for odd in ODD:
            answer = await user.call("GET", path.format(started), query={name: odd})
            assert answer.status in (200, 400, 404), (name, odd, answer.body)
            if answer.status == 200:
                found = answer.json.get("items") if isinstance(answer.json, dict) else answer.json
                assert found == [], (name, odd)
            assert b"hidden" not in answer.body and b"root:" not in answer.body
    assert await rows() == before


async def test_the_catalog_finds_no_more_than_it_is_asked_for(user: Client, registered: dict[str, Any]) -> None:
    for odd in ODD:
        answer = await user.post("/api/catalog/list", {"path": odd})
        assert (answer.status, answer.json["entries"]) == (200, [])
        answer = await user.post("/api/catalog/list", {"resource_type": odd})
        assert (answer.status, answer.json["code"]) == (400, "request.invalid")
        for request in ({"path": odd}, {"path": odd, "version": 1}):
            assert (await user.post("/api/catalog/resource", request)).status in (400, 404)
            assert (await user.post("/api/execute", request)).status in (400, 404)


@pytest.mark.parametrize("path", [*PATHS[:-1], "a//b", "a/", "-x", "x y", "a/./b", "a'b"])
async def test_a_playbook_s_path_cannot_lead_elsewhere(user: Client, path: str, playbook: str) -> None:
    answer = await user.post("/api/catalog/register", {"content": playbook.replace("demo/two", f'"{path}"')})
    if answer.status == 200:
        # a path is a name in a table, and leads to no file; it must still be found under this name alone. The slash
        # that an older form begins with is left out
        assert answer.json["path"] == path.removeprefix("/")
    else:
        assert (answer.status, answer.json["code"]) == (422, "playbook.invalid")


@pytest.mark.parametrize("name", ["", " x", "../x", "a/b", "/", "\x00", "x" * 201])
async def test_a_credential_s_name_is_one_part_of_a_path(user: Client, name: str) -> None:
    answer = await user.post("/api/credentials", {"name": name, "data": {"a": 1}})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


async def test_an_archive_s_files_are_its_own_and_nothing_else(
    user: Client, worker: Client, hands: Any, started: str, rows: Snapshot, database: Database
) -> None:
    """What is registered is read for users and deleted in time: it must not be another execution's result."""
    await hands.finish()
    operator = user.of("operator")
    planned = await operator.post("/api/archives", {"before": "2100-01-01T00:00:00Z"})
    [archive] = planned.json["planned"]
    batch = (await worker.post("/api/archives/claim", {"worker_id": "w"})).json["batch"]
    for key in (f"{started}/first/0.json", "../../etc/passwd", "archive/log/other.jsonl.gz"):
        file = {"key": key, "bytes": 1, "sha256": "0" * 64, "rows": 1}
        found = [{"execution_id": started, "events": batch["events"], "blocks": [[0, 0, 1]]}]
        for files in ({"log": file}, dict.fromkeys(("log", "events", "executions", "results"), file)):
            body = {"attempt": batch["attempt"], "files": files, "executions": found}
            answer = await worker.post(f"/api/archives/{archive}/register", body)
            assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert (await user.get(f"/api/executions/{started}")).json["archived"] is False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FsspecResultStore:
    folder: Path = tmp_path_factory.mktemp("results") / "root"
    return FsspecResultStore(folder.as_uri())


@pytest.mark.parametrize("key", ["", "..", "../x", "/etc/passwd", "7/../../x", "7/./x", "7/a/..", "7/\0x"])
def test_no_key_leads_out_of_the_result_store(store: FsspecResultStore, key: str) -> None:
    for use in (lambda: store.get_sync(key), lambda: store.put_sync(key, b"x"), lambda: store.delete_sync(key)):
        with pytest.raises(ValueError, match=r"not a storage key|null (byte|character)"):
            use()


@FUZZ
@given(step=st.text(min_size=1, max_size=300), text=st.one_of(st.text(max_size=80), st.sampled_from(ODD)))
def test_no_step_leads_out_of_its_execution(store: FsspecResultStore, step: str, text: str) -> None:
    key = storage_key("7", step, "0" * 32)
    assert key.startswith("7/") and key.count("/") == 2 and not {"", ".", ".."} & set(key.split("/"))
    store.put_sync(key, b"x")
    assert store.get_sync(key) == b"x"
    for uri in (text, f"noetl://execution/7/result/{text}/00000000", f"noetl://{text}"):
        try:
            read = ResultUri.parse(uri)
        except ValueError:
            continue
        # what is read is what would be written: there are no two names for one result
        assert str(read) == uri and "/" not in read.execution_id
