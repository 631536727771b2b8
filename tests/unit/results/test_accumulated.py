from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa

from noetl_serverless.results.accumulated import whole
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table

OWNER = "12345"
ROWS = 50_000


def table(columns: pa.Table) -> Table:
    descriptor = memory_file()
    return Table(MappedFile(descriptor, write_table(descriptor, columns).bytes))


def joined(parts: list[Table], files: ResultFiles) -> Any:
    named = {f"{OWNER}/{number}": part for number, part in enumerate(parts)}

    async def load(ref: dict[str, Any]) -> Table:
        return named[ref["key"]]

    manifest = {
        "ref": f"noetl://execution/{OWNER}/result/step/0123abcd",
        "strategy": "append",
        "parts": [{"ref": {"key": key}, "index": 0, "count": ROWS, "level": 0} for key in named],
    }
    return asyncio.run(whole(manifest, load, files))


def test_room_is_asked_for_all_that_is_joined(tmp_path: Path) -> None:
    asked: list[int] = []

    class Files(ResultFiles):
        def extend(self, descriptor: int, size: int) -> bool:
            asked.append(size)
            return super().extend(descriptor, size)

    found = joined([table(pa.table({"n": range(ROWS)}))] * 4, Files(tmp_path))
    assert (len(found), found[ROWS], found[4 * ROWS - 1]) == (4 * ROWS, {"n": 0}, {"n": ROWS - 1})
    assert max(asked) >= found.file.size
