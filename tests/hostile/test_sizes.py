"""What is too large, too deep, or becomes so once it is unpacked: beside unit/playbook/test_document.py and
unit/capsule/test_capsule.py.

The engine reads Parquet and gzip only as it has written them itself. Somebody who can write to the result store could
put others in their place.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.archive.conftest import Over
from tests.unit.gateway.conftest import Client as GatewayClient

from noetl_serverless.archive import log_file
from noetl_serverless.archive.log_file import NotALog, events_of, head_of
from noetl_serverless.archive.parquet import _schema, digest_of
from noetl_serverless.control_plane.body import MAX_BODY_BYTES
from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.gateway.graphql_route import MAX_QUERY_BODY_BYTES
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.worker.archive import ArchiveWriter

from .conftest import FUZZ, Client, Snapshot

WITH_BODY = [operation for operation in OPERATIONS if operation.body is not None]
CHUNK = b" " * (1 << 20)


def path_of(operation: Any) -> str:
    return str(operation.path).replace("{", "").replace("}", "")


async def test_no_operation_reads_a_body_without_end(user: Client, rows: Snapshot) -> None:
    operator, before = user.of("operator"), await rows()
    for operation in WITH_BODY:
        for headers in ({}, {"content-length": str(MAX_BODY_BYTES + 1)}, {"content-length": "1"}):
            answer = await operator.call(operation.method, path_of(operation), [CHUNK] * 11, headers=headers)
            assert (answer.status, answer.json["code"]) == (413, "request.too_large"), operation.name
    assert await rows() == before


async def test_no_operation_follows_a_document_down_without_end(user: Client, rows: Snapshot) -> None:
    operator, before = user.of("operator"), await rows()
    for operation in WITH_BODY:
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for deep in (opening * 100_000, opening * 5000 + b"1" + closing * 5000):
                for body in (deep, b'{"payload": ' + deep + b"}", b'{"data": ' + deep + b"}"):
                    answer = await operator.call(operation.method, path_of(operation), body)
                    assert (answer.status, answer.json["code"]) == (400, "request.invalid"), operation.name
    assert await rows() == before


async def test_a_document_that_is_only_just_too_deep_to_keep_is_refused_or_kept_whole(
    user: Client, registered: dict[str, Any]
) -> None:
    for depth in range(60, 260, 20):
        nested: Any = 1
        for _ in range(depth):
            nested = [nested]
        answer = await user.post("/api/execute", {"path": "demo/two", "payload": {"a": nested}})
        assert answer.status in (200, 400), depth
        if answer.status == 200:
            id = answer.json["execution_id"]
            [event] = (await user.get(f"/api/executions/{id}/events", limit=1)).json
            assert event["payload"]["workload"]["a"] == nested
            assert (await user.get("/api/replay/validate", execution_id=id)).json["valid"]


@pytest.mark.parametrize("path", ["/graphql", "/api/auth/login"])
async def test_the_gateway_reads_no_body_without_end(call: GatewayClient, editor: str, path: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await call(
        "POST", path, chunks=[CHUNK] * (MAX_QUERY_BODY_BYTES // len(CHUNK) + 1), headers=headers, token=editor
    )
    assert answer.status == 413
    for deep in (b"[" * 50_000, b'{"query": ' + b"[" * 5000 + b"]" * 5000 + b"}"):
        answer = await call("POST", path, deep, token=editor)
        assert answer.status == 400


async def test_a_playbook_too_large_or_too_deep_is_refused_over_http(user: Client, playbook: str) -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for content in (
        playbook + "#" * (5 << 20),
        playbook + f"description: {'[' * 5000}{']' * 5000}\n",
        playbook + laughs,
        "&a [*a]",
        "!!python/object/apply:os.system ['true']",
    ):
        answer = await user.post("/api/catalog/register", {"content": content})
        assert (answer.status, answer.json["code"]) == (422, "playbook.invalid")


def test_a_log_file_that_blows_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_LINE_BYTES", 1 << 20)
    bomb = gzip.compress(b'{"seq": 1, "payload": "' + b" " * (8 << 20) + b'"}\n')
    assert len(bomb) < 10_000
    for read in (head_of, lambda content: list(events_of(7, content))):
        with pytest.raises(NotALog, match="more than"):
            read(bomb)


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.binary(max_size=40).map(gzip.compress),
        st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=3)), st.lists, max_leaves=4)
        .map(lambda value: {"seq": value, "at": value, "type": value})
        .map(json.dumps)
        .map(lambda text: gzip.compress(text.encode())),
        st.just(gzip.compress(b'{"seq": 1}\n')[:-4]),
    )
)
def test_what_is_no_log_file_is_called_so(content: bytes) -> None:
    for read in (head_of, lambda given: list(events_of(7, given))):
        try:
            read(content)
        except NotALog:
            continue


async def test_a_log_file_in_the_place_of_another_is_reported(
    user: Client, worker: Client, hands: Any, started: str, results_url: str
) -> None:
    await hands.finish()
    await user.of("operator").post("/api/archives", {"before": "2100-01-01T00:00:00Z"})
    store = FsspecResultStore(results_url)
    client: Any = Over(worker)
    scratch = Path(results_url.removeprefix("file://"))
    assert (await ArchiveWriter(client, lambda: store, scratch, "w").run(600)).registered == 1
    assert (await user.get(f"/api/executions/{started}")).json["archived"] is True
    [key] = [key async for key in store.list("archive/log/")]
    for other in (b"", b"not gzip", gzip.compress(b"[" * 1000), gzip.compress(b"null\n")):
        await store.put(key, other)
        for path in ("", "/status", "/recording"):
            answer = await user.get(f"/api/executions/{started}{path}")
            assert (answer.status, answer.json["code"]) == (404, "resource.not_found")
            assert "is not what was written" in answer.json["detail"]


def test_a_parquet_file_that_blows_up_is_refused(tmp_path: Path) -> None:
    """Ten million rows in some kilobytes: what says that it has more rows than were written is not unpacked."""
    schema = _schema("events")
    bomb = pa.table({field.name: pa.nulls(10_000_000, field.type) for field in schema}, schema=schema)
    pq.write_table(bomb, tmp_path / "bomb")
    assert (tmp_path / "bomb").stat().st_size < 200_000
    with pytest.raises(ValueError, match="10000000 rows, not 3"):
        digest_of("events", tmp_path / "bomb", 3)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign")
    with pytest.raises(ValueError, match="columns"):
        digest_of("events", tmp_path / "foreign", 3)
    (tmp_path / "none").write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    with pytest.raises((ValueError, OSError)):
        digest_of("events", tmp_path / "none", 3)
