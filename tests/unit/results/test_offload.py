from __future__ import annotations

import gc
import hashlib
import os
import secrets
import weakref
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from tests.eventually import eventually

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.limits import INLINE_BYTES
from noetl_serverless.results import offload
from noetl_serverless.results.compression import decompress
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.offload import Output, Place, externalise, selection
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.reference import ResultUri
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table


@pytest.fixture
def store() -> FsspecResultStore:
    return FsspecResultStore(f"memory://{secrets.token_hex(6)}")


async def put(store: FsspecResultStore, data: Any, suffix: str = "load#1@1", **more: Any) -> dict[str, Any]:
    return await externalise(
        data, Place(execution_id="42", step="load", suffix=suffix), ResultStores(store), Output(**more)
    )


async def keys(store: FsspecResultStore) -> list[str]:
    return [key async for key in store.list("")]


@pytest.mark.parametrize("data", [None, True, 1, 1.5, "x", [], {"a": 1}, ["x" * (INLINE_BYTES - 10)]])
async def test_small_data_stays_inline(store: FsspecResultStore, data: Any) -> None:
    assert await put(store, data) == {"data": data}
    assert await keys(store) == []


async def test_big_data_goes_to_the_store(store: FsspecResultStore) -> None:
    data = {"rows": [{"i": i} for i in range(10_000)], "row_count": 10_000}
    ref = (await put(store, data))["ref"]
    assert orjson.loads(await store.get(ref["key"])) == data
    assert ref["kind"] == "result_ref"
    assert ref["meta"]["row_count"] == 10_000
    assert ref["extracted"] == {"row_count": 10_000}
    assert len(ref["preview"].encode()) <= 1024
    uri = ResultUri.parse(ref["ref"])
    assert (uri.execution_id, uri.step) == ("42", "load")
    assert len(orjson.dumps(ref)) < 3000


async def test_the_limit_is_on_the_encoded_size(store: FsspecResultStore) -> None:
    assert "ref" in await put(store, "x" * (INLINE_BYTES - 1))
    assert "data" in await put(store, "x" * (INLINE_BYTES - 2))


async def test_a_retry_writes_the_same_bytes_or_elsewhere(store: FsspecResultStore) -> None:
    first = await put(store, ["a" * 70_000])
    same = await put(store, ["a" * 70_000])
    other_content = await put(store, ["b" * 70_000])
    other_command = await put(store, ["a" * 70_000], suffix="load#1@2")
    assert first["ref"]["key"] == same["ref"]["key"]
    assert len({ref["ref"]["key"] for ref in (first, other_content, other_command)}) == 3
    assert len(await keys(store)) == 3


async def test_selection_goes_by_reference_whatever_the_size(store: FsspecResultStore) -> None:
    ref = (await put(store, {"page": {"next": 4}}, select=[("$.page.next", "cursor")]))["ref"]
    assert ref["extracted"] == {"cursor": 4}


@pytest.mark.parametrize("codec", [None, "gzip", "zstd"])
async def test_what_is_in_a_file_is_stored_as_it_is_there(store: FsspecResultStore, tmp_path: Path, codec: Any) -> None:
    data = {"rows": [1, 2], "text": "x" * 70_000}
    descriptor = memory_file()
    # as it is written nowhere else
    os.write(descriptor, orjson.dumps(data, option=orjson.OPT_INDENT_2))
    file = MappedFile(descriptor, os.fstat(descriptor).st_size)
    place, files = Place(execution_id="42", step="load", suffix="load#1@1"), ResultFiles(tmp_path)
    ref = (await externalise(data, place, ResultStores(store), Output(compression=codec), files, None, file))["ref"]
    content = file.read()
    assert (ref["meta"]["bytes"], ref["meta"]["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert ref["meta"]["row_count"] == 2
    assert ref["preview"].startswith(content[:200].decode())
    assert len(ref["preview"].encode()) <= 1024
    stored = await store.get(ref["key"])
    assert (content if codec is None else decompress(stored, codec, len(content))) == content
    assert (stored == content) is (codec is None)
    assert await Resolver(ResultStores(store)).load(ref) == data


async def test_what_is_no_json_is_refused(store: FsspecResultStore) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        await put(store, {"x": object()})


def test_selection_of_a_tool_and_of_a_task() -> None:
    output = {"select": [{"path": "$.a.b", "as": "x"}, {"path": "$[0]", "as": "first"}]}
    assert selection(output) == [("$.a.b", "x"), ("$[0]", "first")]
    assert selection(output, "load") == [("$.results['load'].a.b", "x"), ("$.results['load'][0]", "first")]
    assert selection({}) == []


async def test_a_table_goes_when_it_is_stored(store: FsspecResultStore, tmp_path: Path) -> None:
    descriptor = memory_file()
    file = MappedFile(descriptor, write_table(descriptor, pa.table({"n": [1]})).bytes)
    gone = weakref.ref(file)
    gc.collect()
    gc.disable()
    try:
        place = Place(execution_id="42", step="load", suffix="load#1@1")
        await externalise({"rows": Table(file)}, place, ResultStores(store), files=ResultFiles(tmp_path))
        del file
        # the thread that has written it lets go of it a moment after it has said so; nothing else does, without garbage
        # being collected
        await eventually(lambda: gone() is None)
    finally:
        gc.enable()


async def test_the_preview_of_a_table_has_the_beginning_of_large_values(
    store: FsspecResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Table, "_slice", lambda *_: pytest.fail("whole rows were converted"))
    descriptor = memory_file()
    written = write_table(descriptor, pa.table({"n": [1, 2], "text": ["x" * 5_000_000, "y"], "l": [[0] * 500_000] * 2}))
    data = {"rows": Table(MappedFile(descriptor, written.bytes)), "row_count": 2}
    place, files = Place(execution_id="42", step="load", suffix="load#1@1"), ResultFiles(tmp_path)
    dumped: list[int] = []

    def counted(value: Any) -> bytes:
        content = offload_dump(value)
        dumped.append(len(content))
        return content

    offload_dump = offload.dump
    monkeypatch.setattr(offload, "dump", counted)
    ref = (await externalise(data, place, ResultStores(store), Output(preview_bytes=200), files))["ref"]
    assert ref["preview"] == '{"rows":[{"n":1,"text":"' + "x" * 173 + "…"
    assert len(ref["preview"].encode()) == 200
    assert max(dumped) < 2_000, "more was written than is shown"
