from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.results.accumulated import parts_of, whole
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


def manifest_of(count: int) -> dict[str, Any]:
    return {
        "ref": f"noetl://execution/{OWNER}/result/step/0123abcd",
        "strategy": "concat",
        "parts": [
            {"ref": {"key": f"{OWNER}/{index}"}, "index": index, "count": 1, "level": 0} for index in range(count)
        ],
    }


def joined(count: int, part: Callable[[int], Any], files: ResultFiles) -> Any:
    """`part`: the value of each of so many parts."""

    async def load(ref: dict[str, Any]) -> Any:
        return part(int(ref["key"].partition("/")[2]))

    manifest = manifest_of(count)
    return asyncio.run(whole(manifest, parts_of(manifest, load), files))


def test_room_is_asked_for_all_that_is_joined(tmp_path: Path) -> None:
    asked: list[int] = []

    class Files(ResultFiles):
        def extend(self, descriptor: int, size: int) -> bool:
            asked.append(size)
            return super().extend(descriptor, size)

    found = joined(4, lambda _: table(pa.table({"n": range(ROWS)})), Files(tmp_path))
    assert (len(found), found[ROWS], found[4 * ROWS - 1]) == (4 * ROWS, {"n": 0}, {"n": ROWS - 1})
    assert max(asked) >= found.file.size


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["one table", "a list at the end", "other columns in each"])
def test_of_many_tables_few_are_open_at_once(tmp_path: Path, kind: str) -> None:
    """AWS Lambda allows 1024 files."""
    count, before, at_once = 400, open_files(), 0

    def part(index: int) -> Any:
        nonlocal at_once
        at_once = max(at_once, open_files() - before)
        if kind == "a list at the end" and index == count - 1:
            return [{"n": index}]
        is_other = kind == "other columns in each" and index % 2
        return table(pa.table({"n": pa.array([index], pa.int16() if is_other else pa.int64())}))

    found = joined(count, part, ResultFiles(tmp_path))
    assert isinstance(found, Table if kind == "one table" else list)
    assert [row["n"] for row in found] == list(range(count))
    assert at_once < 30, f"{at_once} files are open for {count} parts"


def categories(index: int) -> Table:
    """As pandas makes them: each table has few of its own, and numbers of as few bits as these need."""
    names = pa.array([f"city {index} {number}" for number in range(80)])
    return table(pa.table({"city": pa.DictionaryArray.from_arrays(pa.array(range(80), pa.int8()), names)}))


def test_tables_with_more_categories_together_than_their_numbers_can_count_are_one(tmp_path: Path) -> None:
    found = joined(3, categories, ResultFiles(tmp_path))
    assert isinstance(found, Table), "it is a list"
    assert found.schema == categories(0).schema, "the types are no longer those of the pages"
    assert [row["city"] for row in found] == [f"city {index} {number}" for index in range(3) for number in range(80)]


def test_one_table_alone_is_not_copied(tmp_path: Path) -> None:
    only = table(pa.table({"n": [1]}))
    assert joined(1, lambda _: only, ResultFiles(tmp_path)) is only, "it could not be passed on by its reference"


def test_what_is_broken_off_is_written_into_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[int] = []

    class Closed(MappedFile):
        def __del__(self) -> None:
            number = self.fileno()
            super().__del__()
            # as if another thread had opened a file at once, which gets the same number
            other = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
            os.dup2(other, number)
            others.append(number)
            if other != number:
                os.close(other)

    async def parts() -> AsyncIterator[Table]:
        for _ in range(2):
            # more than waits to be joined; the names are less than the buffer of a file
            yield table(pa.table({"text": ["a" * 1200] * 9000, "name": ["secret"] * 9000}))
        raise LookupError("the next part is gone")

    monkeypatch.setattr("noetl_serverless.results.joined.MappedFile", Closed)
    with pytest.raises(LookupError):
        asyncio.run(whole(manifest_of(3), parts(), ResultFiles(tmp_path)))
    gc.collect()
    sizes = [os.fstat(other).st_size for other in others]
    for other in others:
        os.close(other)
    assert sizes == [0], f"what was not finished is in a file of somebody else: {sizes}"


def test_a_part_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'concat' joins is of type dict"):
        joined(1, lambda _: {"a": 1}, ResultFiles(tmp_path))
