"""Results of a loop end where an answer has no more room, and go on from there."""

from __future__ import annotations

import gzip
import hashlib
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from noetl_serverless.control_plane.routes.results import _page_of, _places, _with_values, loop_results
from noetl_serverless.limits import MIB, PAGE_BYTES
from noetl_serverless.results.reader import ReferenceNotAvailable
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.executions import ResultRange

LARGE = "x" * MIB


def places(parts: list[ResultRange]) -> list[tuple[int, int, bool]]:
    return [(part.start, part.end, part.data is None) for part in parts]


def test_results_that_fit_are_all_there() -> None:
    parts = [ResultRange(0, 2, [1, 2], None), ResultRange(2, 5, None, {"ref": "r"}), ResultRange(5, 6, [None], None)]
    assert _page_of(parts, 0, PAGE_BYTES) == (parts, None)
    assert _page_of([], 0, PAGE_BYTES) == ([], None)


def test_a_page_of_results_ends_within_a_part_and_goes_on_there() -> None:
    parts = [
        ResultRange(0, 5, [LARGE] * 5, None),
        ResultRange(5, 9, None, {"ref": "r"}),
        ResultRange(9, 11, [LARGE] * 2, None),
    ]
    kept, following = _page_of(parts, 0, PAGE_BYTES)
    assert (places(kept), following) == ([(0, 3, False)], 3)
    kept, following = _page_of(parts, 3, PAGE_BYTES)
    assert (places(kept), following) == ([(3, 5, False), (5, 9, True), (9, 10, False)], 10)
    kept, following = _page_of(parts, 10, PAGE_BYTES)
    assert (places(kept), following) == ([(10, 11, False)], None)


@pytest.mark.parametrize("first", [0, 7])
def test_a_page_has_one_result_at_least(first: int) -> None:
    kept, following = _page_of([ResultRange(first, first + 2, ["x" * (5 * MIB), 1], None)], first, PAGE_BYTES)
    assert (places(kept), following) == ([(first, first + 1, False)], first + 1)


async def stored(store: FsspecResultStore, start: int, rows: list[Any]) -> ResultRange:
    content = orjson.dumps(rows)
    key = f"1/each/{start}.json"
    await store.put(key, content)
    return ResultRange(
        start,
        start + len(rows),
        None,
        {
            "store": store.name,
            "key": key,
            "meta": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        },
    )


def test_of_claimed_rows_each_result_has_its_place() -> None:
    claimed = [
        ResultRange(0, 2, [0, 1], None),
        ResultRange(2, 4, None, {}),
        ResultRange(8, 10, [8, 9], None),
        ResultRange(15, 16, [15], None),
    ]

    def places(after: int, count: int) -> list[tuple[int, int]]:
        return [(it.start, it.end) for it in _places([it for it in claimed if it.end > after], after, count)]

    assert places(0, 7) == [(0, 4), (8, 10), (15, 16)]
    assert places(3, 3) == [(3, 4), (8, 10)]
    assert places(5, 1) == [(8, 9)], "a place that no row has is that of a result"
    assert places(16, 0) == places(0, 0) == []
    assert [(it.start, it.end) for it in _places([], 5, 3)] == [(5, 8)]


@pytest.fixture
def store() -> FsspecResultStore:
    return FsspecResultStore("memory://loop-results")


async def test_results_by_reference_are_read_into_the_list(store: FsspecResultStore) -> None:
    page = [ResultRange(0, 2, [0, None], None), await stored(store, 2, [2, None, 4]), ResultRange(5, 6, [5], None)]
    assert await _with_values(lambda: ResultStores(store), page, 0, 6) == ([0, None, 2, None, 4, 5], [], 6)
    assert await _with_values(lambda: ResultStores(store), page[1:], 3, None) == ([None, 4, 5], [], None)


async def test_a_page_ends_before_results_that_it_has_no_room_for(store: FsspecResultStore) -> None:
    half = await stored(store, 1, [LARGE] * 2)
    page = [ResultRange(0, 1, [0], None), half, await stored(store, 3, [LARGE] * 3), ResultRange(6, 7, [6], None)]
    values, refs, following = await _with_values(lambda: ResultStores(store), page, 0, None)
    assert (len(values), refs, following) == (3, [], 3)
    values, refs, following = await _with_values(lambda: ResultStores(store), page[2:], 3, None)
    assert (len(values), refs, following) == (4, [], None)


async def test_what_is_stored_leaves_less_room_for_what_is_not(store: FsspecResultStore) -> None:
    page = [await stored(store, 0, [LARGE] * 3), ResultRange(3, 5, [LARGE] * 2, None)]
    values, refs, following = await _with_values(lambda: ResultStores(store), page, 0, None)
    assert (len(values), refs, following) == (3, [], 3)
    assert await _with_values(lambda: ResultStores(store), page[1:], 3, None) == ([LARGE] * 2, [], None)


async def test_results_too_large_for_a_page_are_a_page_of_their_own_by_reference(store: FsspecResultStore) -> None:
    large = await stored(store, 1, [LARGE] * 5)
    page = [ResultRange(0, 1, [0], None), large, ResultRange(6, 7, [6], None)]
    assert await _with_values(lambda: ResultStores(store), page, 0, None) == ([0], [], 1)
    assert await _with_values(lambda: ResultStores(store), page[1:], 1, None) == ([], [large], 6)
    assert await _with_values(lambda: ResultStores(store), page[1:2], 1, 6) == ([], [large], 6)
    assert await _with_values(lambda: ResultStores(store), page[2:], 6, None) == ([6], [], None)


async def test_each_result_is_at_the_place_of_its_item(store: FsspecResultStore) -> None:
    page = [ResultRange(1, 2, [1], None), await stored(store, 3, [3, 4]), ResultRange(6, 7, [6], None)]
    assert await _with_values(lambda: ResultStores(store), page, 0, None) == ([None, 1, None, 3, 4, None, 6], [], None)
    assert await _with_values(lambda: ResultStores(store), page, 0, 9) == (
        [None, 1, None, 3, 4, None, 6, None, None],
        [],
        9,
    )
    assert await _with_values(lambda: ResultStores(store), page[1:], 2, None) == ([None, 3, 4, None, 6], [], None)
    assert await _with_values(lambda: ResultStores(store), page[1:], 4, None) == ([4, None, 6], [], None)
    assert await _with_values(lambda: ResultStores(store), page, 0, 9, has_places=False) == ([1, 3, 4, 6], [], 9)


async def test_pages_go_on_where_items_that_have_not_run_fill_them(store: FsspecResultStore) -> None:
    many = 2 * PAGE_BYTES // 5
    page = [ResultRange(0, 1, [0], None), ResultRange(many, many + 1, [many], None)]
    found: list[Any] = []
    after: int | None = 0
    lengths = []
    while after is not None:
        assert after == len(found)
        values, _, after = await _with_values(
            lambda: ResultStores(store), [it for it in page if it.end > after], after, None
        )
        assert len(orjson.dumps(values)) <= PAGE_BYTES + 2
        lengths.append(len(values))
        found += values
    assert (len(lengths), len(found), found[0], found[-1]) == (3, many + 1, 0, many)
    assert not any(found[1:-1])


async def test_items_that_have_not_run_beside_results_too_large_for_a_page_have_their_places(
    store: FsspecResultStore,
) -> None:
    large = await stored(store, 2, [LARGE] * 5)
    page = [large, ResultRange(9, 10, [9], None)]
    assert await _with_values(lambda: ResultStores(store), page, 0, None) == ([None, None], [], 2)
    assert await _with_values(lambda: ResultStores(store), page, 2, None) == ([], [large], 7)
    assert await _with_values(lambda: ResultStores(store), page[:1], 2, 9) == ([], [large], 7)
    assert await _with_values(lambda: ResultStores(store), page[1:], 7, None) == ([None, None, 9], [], None)


async def test_compressed_results_are_read_into_the_list_too(store: FsspecResultStore) -> None:
    part = await stored(store, 0, [1, 2])
    assert part.ref is not None
    part.ref["meta"]["compression"] = "gzip"
    await store.delete(part.ref["key"])
    await store.put(part.ref["key"], gzip.compress(b"[1,2]"))
    assert await _with_values(lambda: ResultStores(store), [part], 0, None) == ([1, 2], [], None)
    await store.delete(part.ref["key"])
    await store.put(part.ref["key"], b"junk of 10")
    assert await _with_values(lambda: ResultStores(store), [part], 0, None) == ([], [part], None)


@pytest.mark.parametrize("content", [None, b"[1", b"[1]", b'{"a": 1}', b"[1,3]"])
async def test_results_that_are_no_longer_what_was_stored_are_left_by_reference(
    store: FsspecResultStore, content: bytes | None
) -> None:
    part = await stored(store, 7, [1, 2])
    assert part.ref is not None
    await store.delete(part.ref["key"])
    if content is not None:
        await store.put(part.ref["key"], content)
    assert await _with_values(lambda: ResultStores(store), [part], 7, None) == ([], [part], None)


class Gone:
    """Of an execution that has taken over the results of one that is no longer there."""

    async def latest_generation(self, *loop: Any) -> None:
        return None

    async def loop_stats(self, *loop: Any) -> None:
        return None

    async def state(self, execution_id: str) -> Any:
        ref = {"kind": "manifest", "ref": "noetl://execution/7/manifest/each/1", "count": 500}
        return SimpleNamespace(outcomes={"each": {"status": "ok", "ref": ref}})


async def test_results_that_a_restart_has_taken_over_and_are_gone_are_not_said_to_be_none() -> None:
    query = SimpleNamespace(execution_id="9", step_name="each", after=0)
    call: Any = SimpleNamespace(query=query, services=SimpleNamespace(executions=Gone(), orchestrator=Gone()))
    with pytest.raises(ReferenceNotAvailable, match="noetl://execution/7/manifest/each/1 does not exist any more"):
        await loop_results(call)
