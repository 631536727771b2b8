"""A result of which something was accumulated is sent as one JSON value, part by part."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from noetl_serverless.control_plane.accumulated import pieces_of, size_of
from noetl_serverless.playbook.views import COLLECTED
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores

ALWAYS = Output(inline_bytes=-1)


@pytest.fixture
def stores() -> ResultStores:
    return ResultStores(FsspecResultStore("memory://control-plane-accumulated"))


async def manifest(stores: ResultStores, strategy: str, values: list[Any]) -> dict[str, Any]:
    parts = []
    for index, value in enumerate(values):
        ref = (await externalise(value, Place(execution_id="7", step="s", suffix=str(index)), stores, ALWAYS))["ref"]
        parts.append({"ref": ref, "index": index, "count": 1, "bytes": 10, "level": 0})
    listed = (await externalise(parts, Place(execution_id="7", step="s", suffix="list"), stores, ALWAYS))["ref"]
    top = {"ref": listed, "index": 0, "count": len(parts), "bytes": 10 * len(parts), "level": 1}
    return {
        "kind": "accumulated",
        "ref": "noetl://execution/7/manifest/s/1",
        "strategy": strategy,
        "parts": [top],
        "total_bytes": 10 * len(parts),
    }


@pytest.mark.parametrize("rest", [{}, {"status": "ok", "results": {"a": 1}}])
@pytest.mark.parametrize(
    ("strategy", "values", "expected"),
    [
        ("concat", [[1, 2], [3], ["four", {"n": 5}]], [1, 2, 3, "four", {"n": 5}]),
        ("merge", [{"a": 1, "b": 2}, {"a": 3}], {"a": 3, "b": 2}),
        ("append", [[None]], [None]),
    ],
)
async def test_it_is_one_value_of_all_parts(
    stores: ResultStores, rest: dict[str, Any], strategy: str, values: list[Any], expected: Any
) -> None:
    document = {"rest": rest, COLLECTED: {"found": await manifest(stores, strategy, values)}}
    sent = b"".join([piece async for piece in pieces_of(document, stores)])
    assert orjson.loads(sent) == {**rest, "found": expected}
    assert size_of(document) == 10 * len(values)
