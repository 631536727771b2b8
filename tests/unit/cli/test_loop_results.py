"""The results of a loop's items from the command line, of pages and of parts that are too large for one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow
import pytest

from noetl_serverless.cli.client import Client, StreamedAnswer
from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.loop_results import LoopResults, loop_path
from noetl_serverless.cli.tabular import write
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


def page(results: list[Any], *places: tuple[int, int], refs: Sequence[Any] = (), next: int | None) -> dict[str, Any]:
    ranges = [{"start": start, "end": end} for start, end in places]
    return {"results": results, "places": ranges, "refs": list(refs), "next": next, "stats": STATS}


# by `after`: the items 0 and 1, none at 2, a part with 3 and 4, and 5
PAGES: dict[int, dict[str, Any]] = {
    0: page(["a", "b", None], (0, 3), next=3),
    1: page(["b", None], (1, 3), next=3),
    3: page([], refs=[PART], next=5),
    4: page([], refs=[PART], next=5),
    5: page(["f"], (5, 6), next=None),
    6: page([], next=None),
}
# of a loop that claims its rows: 0 and 1, then 3 and 4, which are stored, then 8 and 10
CLAIMED: dict[int, dict[str, Any]] = {
    0: page(["a", "b"], (0, 2), next=3),
    1: page(["b"], (1, 2), next=3),
    2: page([], refs=[PART], next=5),
    3: page([], refs=[PART], next=5),
    5: page(["i", "k"], (8, 9), (10, 11), next=None),
    8: page(["i", "k"], (8, 9), (10, 11), next=None),
    9: page(["k"], (10, 11), next=None),
    10: page(["k"], (10, 11), next=None),
    11: page([], next=None),
}


class Pages(Client):
    def __init__(self, rows: Any, pages: dict[int, dict[str, Any]] = PAGES) -> None:
        super().__init__("http://127.0.0.1:1", "token")
        self.rows, self.pages = rows, pages

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        given = parse_qs(urlsplit(path).query)
        assert (given["execution_id"], given["step_name"]) == (["7"], ["a b"])
        return self.pages[int(given["after"][0])]

    @contextlib.contextmanager
    def streaming(self, method: str, path: str, **options: Any) -> Iterator[StreamedAnswer]:
        given = parse_qs(urlsplit(path).query)
        assert (method, given) == ("GET", {"ref": [PART["ref"]["ref"]], "sha256": ["0" * 64]})
        is_content = isinstance(self.rows, bytes)
        content = self.rows if is_content else json.dumps(self.rows).encode()
        headers = {"content-type": MEDIA_TYPES["arrow" if is_content else "json"], "content-length": str(len(content))}
        yield StreamedAnswer(200, headers, io.BytesIO(content))


def results_in(pages: Pages) -> LoopResults:
    return LoopResults(pages, loop_path("7", "a b"))


def test_it_has_all_items_each_at_its_place() -> None:
    found = results_in(Pages(["d", "e"]))
    assert found.whole() == {"results": ["a", "b", None, "d", "e", "f"], "stats": STATS}
    assert json.loads(b"".join(found.json())) == found.whole()


@pytest.mark.parametrize(("item", "expected"), [(1, "b"), (4, "e"), (5, "f")])
def test_one_item_is_read_without_the_others(item: int, expected: str) -> None:
    assert results_in(Pages(["d", "e"])).item(item) == expected


def test_of_claimed_rows_there_are_no_more_results_than_rows() -> None:
    """As a template has them: a place that no row has is no result."""
    found = results_in(Pages(["d", "e"], CLAIMED))
    assert found.whole()["results"] == ["a", "b", "d", "e", "i", "k"], "places that no row has are results"
    assert json.loads(b"".join(found.json())) == found.whole()


@pytest.mark.parametrize(("item", "expected"), [(1, "b"), (3, "d"), (8, "i"), (10, "k")])
def test_a_claimed_row_is_found_by_its_place(item: int, expected: str) -> None:
    assert results_in(Pages(["d", "e"], CLAIMED)).item(item) == expected


@pytest.mark.parametrize(("item", "nearest"), [(2, "; the next one is 3"), (9, "; the next one is 10"), (11, "")])
def test_a_place_that_no_row_has_is_refused_with_those_that_there_are(item: int, nearest: str) -> None:
    with pytest.raises(Failure) as refused:
        results_in(Pages(["d", "e"], CLAIMED)).item(item)
    assert str(refused.value) == f"the loop has no result of an item {item}: there are 0-1, ...{nearest}"


def test_no_items_are_json_too() -> None:
    empty = Pages([], {0: page([], next=None)})
    assert json.loads(b"".join(results_in(empty).json())) == {"results": [], "stats": STATS}
    with pytest.raises(Failure, match="no result of an item 0: it has none"):
        results_in(empty).item(0)


def tables() -> bytes:
    """As it is stored: an item with a table in it, and one that is a table."""
    descriptor = memory_file()
    value = {"rest": [{"x": 1, "rows": None}, None], "tables": [[[0, "rows"], 0], [[1], 0]]}
    size = write_table(descriptor, pyarrow.table({"n": [1, 2]}), value).bytes
    return MappedFile(descriptor, size).read()


def test_what_items_have_as_tables_are_tables() -> None:
    stored = results_in(Pages(tables()))
    found = stored.whole()["results"]
    assert isinstance(found[4], Table) and list(found[4]) == list(found[3]["rows"]) == [{"n": 1}, {"n": 2}]
    assert list(stored.item(4)) == [{"n": 1}, {"n": 2}]
    rows = [{"n": 1}, {"n": 2}]
    assert json.loads(b"".join(stored.json()))["results"] == ["a", "b", None, {"x": 1, "rows": rows}, rows, "f"]


def test_more_tables_than_files_may_be_open_are_read_one_after_another() -> None:
    open_now = len(os.listdir("/dev/fd"))
    parts = {**PART, "start": 0, "end": 2}
    many = {0: page([], refs=[parts] * 100, next=None)}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 50, limits[1]))
    try:
        found = json.loads(b"".join(results_in(Pages(tables(), many)).json()))
        with pytest.raises(Failure, match=r"more tables than files may be open at once .*--as json"):
            write(results_in(Pages(tables(), many)).whole, io.BytesIO(), "ndjson", "results.0.rows")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(found["results"]) == 200


def test_an_item_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(Failure, match=r"no result of an item 6: there are 0-2, \.\.\."):
        results_in(Pages([])).item(6)


@pytest.mark.parametrize("rows", [["d"], {"d": 1}])
def test_a_part_that_is_not_what_it_should_be_is_a_failure(rows: Any) -> None:
    with pytest.raises(Failure, match="is not the results of the items from 3 to 5"):
        results_in(Pages(rows)).whole()
