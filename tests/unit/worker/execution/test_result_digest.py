"""The digests of results, of which some have tables."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.tables.test_value import table

from noetl_serverless.engine.digest import HTTP
from noetl_serverless.worker.execution.result_digest import result_digest


def answer(rows: list[dict[str, Any]], elapsed: float = 1.0) -> dict[str, Any]:
    return {**dict.fromkeys(HTTP, "x"), "elapsed": elapsed, "data": table(rows)}


async def test_of_an_answer_with_a_table_it_depends_on_the_rows_and_not_on_the_time() -> None:
    one = await result_digest(answer([{"n": 1}]))
    assert one == await result_digest(answer([{"n": 1}], elapsed=2.0)) is not None
    assert one != await result_digest(answer([{"n": 2}])), "answers with other rows have one digest"
    assert one != await result_digest({"results": {"call": answer([{"n": 1}])}}) is not None


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"rows": rows}, lambda rows: [rows]])
async def test_what_is_the_same_at_every_call_has_none_and_is_not_looked_at(
    wrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table([{"n": 1}])
    monkeypatch.setattr(type(rows), "__iter__", lambda self: pytest.fail("its rows are made, one by one"))
    assert await result_digest(wrap(rows)) is None
