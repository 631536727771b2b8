from __future__ import annotations

from typing import Any

import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.results.offload import Place, externalise


async def opened(bench: Bench, items: str, **more: Any) -> Any:
    return await bench.run(make.step(make.task("a"), loop=make.loop(items=items)), kind="open", **more)


@pytest.mark.parametrize(
    ("value", "items"),
    [([1, 2], [1, 2]), ([], []), (None, []), ({"a": 1}, [{"a": 1}])],
)
async def test_collections(bench: Bench, value: Any, items: list[Any]) -> None:
    outcome = await opened(bench, "{{ workload.items }}", workload={"items": value})
    assert (outcome.status, outcome.data, outcome.count) == ("done", items, len(items))


@pytest.mark.parametrize("value", ["abc", 3, True])
async def test_what_is_no_collection_is_an_error(bench: Bench, value: Any) -> None:
    outcome = await opened(bench, "{{ workload.items }}", workload={"items": value})
    assert (outcome.status, outcome.error["code"], outcome.error["at"]) == ("error", "loop.not_iterable", 7)
    assert outcome.error["message"] == f"loop.in must give a list, not {type(value).__name__}"
    assert outcome.count is None


async def test_a_missing_name_is_an_error(bench: Bench) -> None:
    outcome = await opened(bench, "{{ nix }}")
    assert (outcome.status, outcome.error["code"]) == ("error", "template.error")


async def test_a_collection_is_read_through_a_reference_and_stored(bench: Bench) -> None:
    data = {"rows": [{"id": i, "name": "x" * 20} for i in range(5000)]}
    ref = (await externalise(data, Place(execution_id="42", step="load", suffix="s"), bench.stores))["ref"]
    outcome = await opened(bench, "{{ load.rows }}", steps={"load": {"status": "ok", "ref": ref}})
    assert (outcome.status, outcome.count, outcome.data) == ("done", 5000, None)
    assert (await bench.resolver.load(outcome.ref))[4999]["id"] == 4999
