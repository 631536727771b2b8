from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow
import pytest

from noetl_serverless.playbook.views import FIELD
from noetl_serverless.ports import StoredObject
from noetl_serverless.results import reader, retry
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.reader import LoopTooLarge, ReferenceNotAvailable, Resolver
from noetl_serverless.results.retry import StoreFailed
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.results.unfinished import Write
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import MEDIA_TYPE, write_table
from noetl_serverless.tables.table import Table


def table_of(content: pyarrow.Table) -> Table:
    descriptor = memory_file(0)
    return Table(MappedFile(descriptor, write_table(descriptor, content).bytes))


class CountingStore(FsspecResultStore):
    def __init__(self) -> None:
        super().__init__(f"memory://{secrets.token_hex(6)}")
        self.reads = 0

    async def get(self, key: str) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        return await super().get(key)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


async def write(store: FsspecResultStore, data: Any, suffix: str = "c") -> dict[str, Any]:
    stored = await externalise(
        data, Place(execution_id="42", step="load", suffix=suffix), ResultStores(store), Output(inline_bytes=0)
    )
    ref: dict[str, Any] = stored["ref"]
    return ref


async def test_a_reference_gives_what_was_written(store: CountingStore) -> None:
    ref = await write(store, {"rows": [1, 2, 3]})
    assert await Resolver(ResultStores(store)).load(ref) == {"rows": [1, 2, 3]}


async def test_a_store_that_the_deployment_lacks_is_named(store: CountingStore) -> None:
    ref = {**await write(store, [1]), "store": "s3"}
    with pytest.raises(ReferenceNotAvailable, match="result store 's3', which this deployment does not have"):
        await Resolver(ResultStores(store)).load(ref)
    assert store.reads == 0


async def test_it_is_read_once(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store))
    ref = await write(store, [1])
    await asyncio.gather(*(resolver.load(ref) for _ in range(5)))
    await resolver.load(ref)
    assert store.reads == 1


async def test_what_was_just_written_is_not_read(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store))
    ref = await write(store, [1])
    resolver.put(ref, [1])
    assert await resolver.load(ref) == [1]
    assert store.reads == 0


async def test_a_store_that_is_away_is_waited_for(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await write(store, [1])
    get, left = store.get, 2

    async def away(key: str) -> bytes:
        nonlocal left
        left -= 1
        if left >= 0:
            raise NotADirectoryError(key)
        return await get(key)

    monkeypatch.setattr(store, "get", away)
    assert await Resolver(ResultStores(store)).load(ref) == [1]
    left = 1000
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.1)
    with pytest.raises(StoreFailed, match="could not be read"):
        await Resolver(ResultStores(store)).load(ref)


async def test_the_cache_is_bounded_by_bytes(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store), cache_bytes=250)
    refs = [await write(store, ["x" * 90, index]) for index in range(3)]
    for ref in refs:
        await resolver.load(ref)
    await resolver.load(refs[2])
    assert store.reads == 3
    await resolver.load(refs[0])
    assert store.reads == 4


async def test_what_exceeds_the_cache_is_read_each_time(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store), cache_bytes=10)
    ref = await write(store, ["x" * 90])
    assert await resolver.load(ref) == await resolver.load(ref)
    assert store.reads == 2


async def test_what_exceeds_the_cache_is_kept_for_one_reader(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store), cache_bytes=10)
    value = ["x" * 90]
    ref = await write(store, value)
    resolver.put(ref, value)
    assert await resolver.load(ref) is value
    assert await resolver.load(ref) == value
    assert store.reads == 1, "the second reader has its own copy, because nothing is kept for it"


async def test_what_exceeds_the_cache_gives_way_to_the_next(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store), cache_bytes=10)
    refs = [await write(store, ["x" * 90, number]) for number in range(2)]
    for number, ref in enumerate(refs):
        resolver.put(ref, ["x" * 90, number])
    assert [await resolver.load(ref) for ref in refs] == [["x" * 90, 0], ["x" * 90, 1]]
    assert store.reads == 1


async def test_what_exceeds_the_cache_is_kept_for_a_moment_only(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "KEEP_SECONDS", 0.01)
    resolver = Resolver(ResultStores(store), cache_bytes=10)
    ref = await write(store, ["x" * 90])
    resolver.put(ref, ["x" * 90])
    await asyncio.sleep(0.1)
    assert resolver._large is None
    assert await resolver.load(ref) == ["x" * 90]


async def test_a_table_that_was_just_written_can_be_passed_on_by_its_reference(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store))
    ref = {"kind": "result_ref", "ref": "noetl://execution/42/result/load/0", "meta": {"content_type": MEDIA_TYPE}}
    rows = table_of(pyarrow.table({"n": [1, 2]}))
    resolver.put(ref, {"rows": rows})
    assert rows.origin == (ref, ("rows",))
    resolver.put({**ref, FIELD: "rows"}, rows)
    assert await resolver.load(ref) == {"rows": [{"n": 1}, {"n": 2}]}, "a part took the place of the whole"


async def test_changed_bytes_are_noticed(store: CountingStore) -> None:
    ref = await write(store, [1, 2])
    await store.put(ref["key"], b"[1,3]")
    with pytest.raises(ReferenceNotAvailable, match="differ from those that were written"):
        await Resolver(ResultStores(store)).load(ref)


async def test_missing_bytes_are_reported_by_their_uri(store: CountingStore) -> None:
    ref = await write(store, [1, 2])
    await store.delete(ref["key"])
    with pytest.raises(ReferenceNotAvailable, match="noetl://execution/42/result/load/"):
        await Resolver(ResultStores(store)).load(ref)


async def test_after_a_failure_it_is_tried_again(store: CountingStore) -> None:
    ref = await write(store, [1, 2])
    await store.delete(ref["key"])
    resolver = Resolver(ResultStores(store))
    with pytest.raises(ReferenceNotAvailable):
        await resolver.load(ref)
    await write(store, [1, 2])
    assert await resolver.load(ref) == [1, 2]


async def test_one_who_gives_up_does_not_end_it_for_the_others(store: CountingStore) -> None:
    resolver = Resolver(ResultStores(store))
    ref = await write(store, [1])
    first = asyncio.create_task(resolver.load(ref))
    second = asyncio.create_task(resolver.load(ref))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [1]
    assert store.reads == 1


def manifest(count: int, generation: int = 2) -> dict[str, Any]:
    return {
        "kind": "manifest",
        "ref": f"noetl://execution/42/manifest/each/{generation}",
        "store": "manifest",
        "count": count,
        "meta": {"bytes": 10},
        "extracted": {"stats": {"total": count, "success": count, "failed": 0}},
    }


async def test_a_manifest_gives_its_parts_in_order(store: CountingStore) -> None:
    part = await write(store, ["c", "d"])
    pages: list[tuple[str, str, int, int]] = []

    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        pages.append((execution_id, step, generation, after))
        return {"parts": [{"start": 2, "end": 4, "ref": part}, {"start": 0, "end": 2, "data": ["a", "b"]}]}

    value = await Resolver(ResultStores(store), fetch).load(manifest(4))
    assert value == {"results": ["a", "b", "c", "d"], "stats": {"total": 4, "success": 4, "failed": 0}}
    assert pages == [("42", "each", 2, 0)]


PAGES: dict[int, dict[str, Any]] = {
    0: {"parts": [{"start": 0, "end": 3, "data": ["a", "b", "c"]}], "next": 3},
    3: {"parts": [{"start": 3, "end": 4, "data": ["d"]}, {"start": 4, "end": 6, "data": ["e", "f"]}], "next": 6},
    6: {"parts": [{"start": 6, "end": 7, "data": ["g"]}], "next": None},
}
# as the release before answers, which knows no pages
WHOLE = {"parts": [{"start": 0, "end": 2, "data": ["a", "b"]}, {"start": 2, "end": 7, "data": [*"cdefg"]}]}


@pytest.mark.parametrize("older", [(), (0,), (3,), (6,), (3, 6)])
async def test_a_manifest_is_read_page_by_page_whoever_answers(store: CountingStore, older: tuple[int, ...]) -> None:
    pages: list[int] = []

    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        pages.append(after)
        return WHOLE if after in older else PAGES[after]

    value = await Resolver(ResultStores(store), fetch).load(manifest(7))
    assert value["results"] == list("abcdefg")
    assert pages == [after for after in (0, 3, 6) if not any(before < after for before in older)]


async def test_the_rows_of_a_cursor_leave_places_free(store: CountingStore) -> None:
    pages: dict[int, dict[str, Any]] = {
        0: {"parts": [{"start": 0, "end": 2, "data": ["a", "b"]}, {"start": 4, "end": 5, "data": ["c"]}], "next": 12},
        12: {"parts": [{"start": 12, "end": 16, "data": [*"defg"]}, {"start": 20, "end": 20, "data": []}]},
    }

    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return pages[after]

    assert (await Resolver(ResultStores(store), fetch).load(manifest(7)))["results"] == list("abcdefg")


async def test_results_of_a_loop_that_was_cut_short_are_at_the_places_of_their_items(store: CountingStore) -> None:
    pages: dict[int, dict[str, Any]] = {
        0: {"parts": [{"start": 1, "end": 3, "data": ["b", "c"]}], "next": 3},
        3: {"parts": [{"start": 6, "end": 7, "data": ["g"]}]},
    }

    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return pages[after]

    ref = manifest(3)
    ref["meta"]["partial"] = True
    assert (await Resolver(ResultStores(store), fetch).load(ref))["results"] == [None, "b", "c", None, None, None, "g"]
    with pytest.raises(ReferenceNotAvailable, match="3 items, expected 4"):
        await Resolver(ResultStores(store), fetch).load({**ref, "count": 4})


async def test_a_page_that_leads_nowhere_is_refused(store: CountingStore) -> None:
    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return {"parts": [{"start": 0, "end": 1, "data": ["a"]}], "next": after + bool(not after)}

    with pytest.raises(ReferenceNotAvailable, match="the page after 1 continues at 1"):
        await Resolver(ResultStores(store), fetch).load(manifest(4))


async def test_more_than_a_worker_has_room_for_is_refused_before_it_is_read(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LOOP_READ_BYTES", 100)
    part = await write(store, ["c" * 40])

    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return {"parts": [{"start": after, "end": after + 1, "ref": part}], "next": after + 1 if after < 9 else None}

    with pytest.raises(LoopTooLarge, match="more than 100 bytes") as caught:
        await Resolver(ResultStores(store), fetch).load(manifest(10))
    assert (caught.value.code, caught.value.status) == ("loop.too_large", 413), "to try it again would not help"
    assert store.reads == 1, "the same part twice, and no third time"


@pytest.mark.parametrize(
    "parts",
    [
        [{"start": 0, "end": 2, "data": ["a", "b"]}],
        [{"start": 0, "end": 2, "data": ["a", "b"]}, {"start": 3, "end": 4, "data": ["d"]}],
        [{"start": 0, "end": 4, "data": ["a", "b", "c"]}],
    ],
)
async def test_a_manifest_with_a_gap_is_refused(store: CountingStore, parts: list[dict[str, Any]]) -> None:
    async def fetch(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return {"parts": parts}

    with pytest.raises(ReferenceNotAvailable):
        await Resolver(ResultStores(store), fetch).load(manifest(4))


async def test_an_expired_reference_is_refused_although_its_object_is_there(store: CountingStore) -> None:
    stores = ResultStores(store)
    ref = await write(store, [1])
    resolver = Resolver(stores)
    now = datetime.now(UTC)
    assert await resolver.load({**ref, "expires_at": (now + timedelta(minutes=1)).isoformat()}) == [1]
    over = {**ref, "expires_at": (now - timedelta(seconds=1)).isoformat()}
    for cached in (resolver, Resolver(stores)):
        with pytest.raises(ReferenceNotAvailable, match="has expired") as refused:
            await cached.load(over)
        assert refused.value.reason == "expired"
        assert refused.value.to_dict()["reason"] == "expired"
    with pytest.raises(ReferenceNotAvailable, match="expires_at"):
        await resolver.load({**ref, "expires_at": "soon"})


async def test_what_is_still_being_written_is_waited_for(store: CountingStore) -> None:
    stores = ResultStores(store)
    may_end = asyncio.Event()

    def begin(key: str, write: Write) -> None:
        async def later() -> StoredObject:
            await may_end.wait()
            return await write()

        stores.unfinished.begin(key, later)

    place = Place(execution_id="42", step="load", suffix="c")
    stored = await externalise([1, 2], place, stores, Output(inline_bytes=0), begin=begin)
    reading = asyncio.create_task(Resolver(stores).load(stored["ref"]))
    await asyncio.sleep(0.01)
    assert (reading.done(), store.reads) == (False, 0)
    may_end.set()
    assert await reading == [1, 2]
    same = await externalise([1, 2], place, stores, Output(inline_bytes=0))
    for ref in (same["ref"], stored["ref"]):
        del ref["meta"]["created_at"]
    assert same == stored, "the reference to what is written later differs"
