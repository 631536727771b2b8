"""The results of a loop's items from the command line, of pages and of parts that are too large for one."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow
import pytest

from noetl_serverless.cli.client import Client, StreamedAnswer
from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.loop_results import item_of, loop_path, results_of
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import MEDIA_TYPES
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table

STATS = {"total": 7, "success": 6, "failed": 0}
PART: dict[str, Any] = {
    "start": 3,
    "end": 5,
    "ref": {"ref": "noetl://execution/7/result/l/0a1b2c3d", "meta": {"sha256": "0" * 64}},
}
# by `after`: the items 0 and 1, none at 2, a part with 3 and 4, and 5
PAGES: dict[int, dict[str, Any]] = {
    0: {"results": ["a", "b"], "refs": [], "next": 3},
    1: {"results": ["b"], "refs": [], "next": 3},
    3: {"results": [], "refs": [PART], "next": 5},
    4: {"results": [], "refs": [PART], "next": 5},
    5: {"results": ["f"], "refs": [], "next": None},
    6: {"results": [], "refs": [], "next": None},
}


class Pages(Client):
    def __init__(self, rows: Any) -> None:
        super().__init__("http://127.0.0.1:1", "token")
        self.rows = rows

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        given = parse_qs(urlsplit(path).query)
        assert (given["execution_id"], given["step_name"]) == (["7"], ["a b"])
        return {**PAGES[int(given["after"][0])], "stats": STATS}

    @contextlib.contextmanager
    def streaming(self, method: str, path: str, **options: Any) -> Iterator[StreamedAnswer]:
        given = parse_qs(urlsplit(path).query)
        assert (method, given) == ("GET", {"ref": [PART["ref"]["ref"]], "sha256": ["0" * 64]})
        is_content = isinstance(self.rows, bytes)
        content = self.rows if is_content else json.dumps(self.rows).encode()
        headers = {"content-type": MEDIA_TYPES["arrow" if is_content else "json"], "content-length": str(len(content))}
        yield StreamedAnswer(200, headers, io.BytesIO(content))


def test_it_has_all_items_each_at_its_place() -> None:
    found = results_of(Pages(["d", "e"]), loop_path("7", "a b"))
    assert found == {"results": ["a", "b", None, "d", "e", "f"], "stats": STATS}


@pytest.mark.parametrize(("item", "expected"), [(1, "b"), (4, "e"), (5, "f")])
def test_one_item_is_read_without_the_others(item: int, expected: str) -> None:
    assert item_of(Pages(["d", "e"]), loop_path("7", "a b"), item) == expected


def test_what_items_have_as_tables_are_tables() -> None:
    descriptor = memory_file()
    value = {"rest": [{"x": 1, "rows": None}, None], "tables": [[[0, "rows"], 0], [[1], 0]]}
    size = write_table(descriptor, pyarrow.table({"n": [1, 2]}), value).bytes
    stored = MappedFile(descriptor, size).read()
    path = loop_path("7", "a b")
    found = results_of(Pages(stored), path)["results"]
    assert isinstance(found[4], Table) and list(found[4]) == list(found[3]["rows"]) == [{"n": 1}, {"n": 2}]
    assert list(item_of(Pages(stored), path, 4)) == [{"n": 1}, {"n": 2}]


def test_an_item_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(Failure, match="no result of an item 6: 7 items"):
        item_of(Pages([]), loop_path("7", "a b"), 6)


@pytest.mark.parametrize("rows", [["d"], {"d": 1}])
def test_a_part_that_is_not_what_it_should_be_is_a_failure(rows: Any) -> None:
    with pytest.raises(Failure, match="is not the results of the items from 3 to 5"):
        results_of(Pages(rows), loop_path("7", "a b"))
