"""A batch's files from pages that end anywhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.archive.log_file import events_of
from noetl_serverless.archive.messages import Batch, EventRow
from noetl_serverless.archive.write import Damaged, write_batch
from noetl_serverless.results.store import FsspecResultStore


class Pages:
    """Executions with so many events each, `size` rows in a page."""

    def __init__(self, counts: dict[str, int], size: int) -> None:
        self.counts = counts
        self.size = size
        self.lost: tuple[str, int] | None = None

    async def executions(self, archive_id: str, after: str) -> Sequence[tuple[str, str]]:
        return [(id, head(id)) for id in self.counts if int(id) > int(after)][: self.size]

    async def events(self, archive_id: str, after: str, seq: int) -> Sequence[EventRow]:
        rows: list[EventRow] = [
            (id, number, None, "call.done", "a", 1, None, number, f'{{"n": {number}}}')
            for id, count in self.counts.items()
            for number in range(1, count + 1)
            if (int(id), number) > (int(after), seq) and (id, number) != self.lost
        ]
        return rows[: self.size]


def head(id: str) -> str:
    row: dict[str, Any] = dict.fromkeys(
        ("parent_execution_id", "parent", "workload", "state", "result", "error", "idempotency_key")
    )
    row |= {"execution_id": int(id), "catalog_id": 1, "path": "p", "version": 1, "plan_hash": "h", "depth": 0}
    row |= {"status": "COMPLETED", "head": 1, "finished": 1, "created_at": "2026-01-01T00:00:00+00:00"}
    return json.dumps({"execution": row | {"ended_at": "2026-01-01T01:00:00.5+01:00"}, "results": [], "commands": []})


def batch(counts: dict[str, int]) -> Batch:
    ids = list(counts)
    return Batch(
        archive_id="1",
        attempt=1,
        month=date(2026, 1, 1),
        first_id=ids[0],
        last_id=ids[-1],
        executions=len(ids),
        events=sum(counts.values()),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_pages_may_end_anywhere(size: int, tmp_path: Path) -> None:
    counts = {"5": 3, "6": 1, "9": 5, "10": 2}
    store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
    written = await write_batch(batch(counts), Pages(counts, size), store, tmp_path / "scratch")
    assert {found.execution_id: found.events for found in written.executions} == counts
    assert {name: file.rows for name, file in written.files.items()} == {
        "events": 11,
        "executions": 4,
        "results": 0,
        "log": 15,
    }
    for found in written.executions:
        offset, length = found.blocks[0][1], sum(block[2] for block in found.blocks)
        content = await store.get_range(written.files["log"].key, offset, length)
        events = list(events_of(int(found.execution_id), content))
        assert [event.payload for event in events] == [{"n": n} for n in range(1, found.events + 1)]
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_row_that_is_missing_is_noticed(tmp_path: Path) -> None:
    counts = {"5": 3, "6": 4}
    pages = Pages(counts, 2)
    pages.lost = ("6", 2)
    store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
    with pytest.raises(Damaged, match="6 were given"):
        await write_batch(batch(counts), pages, store, tmp_path)
    assert [key async for key in store.list("archive/")] == []
