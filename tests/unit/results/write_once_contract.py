"""What holds, beyond `contract`, for a store that writes each key once; its tests make the fixture `store`."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import pytest

from noetl_serverless.errors import Conflict
from noetl_serverless.ports import ResultStore, StoredObject

# beside what steps may be called, whatever a file system or a message bus could take for its own
NAMES = ("a", "a.b", "*", ">", "a b", "%2E", "=2E", "ключ", "😀", "a\tb", "-", "_", "A", "..a", "x" * 200, "~", "a\\b")


class WriteOnceContract:
    # of objects: around what is a border within the store
    sizes: ClassVar[Sequence[int]] = (0, 1, 1000)
    sequences = 12

    async def test_the_same_bytes_may_be_put_again(self, store: ResultStore) -> None:
        stored = await store.put("1/a/k.json", b"x" * 1500)
        assert await store.put("1/a/k.json", b"x" * 1500) == stored
        assert await store.get("1/a/k.json") == b"x" * 1500
        await store.delete("1/a/k.json")
        await store.put("1/a/k.json", b"another")
        assert await store.get("1/a/k.json") == b"another", "what was deleted may be written anew"

    @pytest.mark.parametrize("other", [b"old!", b"new", b"", b"x" * 2500])
    async def test_other_bytes_are_refused_and_what_is_there_stays(self, store: ResultStore, other: bytes) -> None:
        await store.put("1/a/k.json", b"old")
        with pytest.raises(Conflict, match="with other bytes"):
            await store.put("1/a/k.json", other)
        assert await store.get("1/a/k.json") == b"old"
        assert [key async for key in store.list("")] == ["1/a/k.json"]

    async def test_every_name_round_trips(self, store: ResultStore) -> None:
        keys = [f"1/{first}/{second}.json" for first in NAMES for second in NAMES[:4]]
        await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
        assert [key async for key in store.list("1/")] == sorted(keys)
        assert await asyncio.gather(*map(store.get, keys)) == [key.encode() for key in keys]
        for name in NAMES:
            below = sorted(key for key in keys if key.startswith(f"1/{name}"))
            assert [key async for key in store.list(f"1/{name}")] == below

    async def test_sequences_of_calls_do_what_they_do_to_a_dict(self, store: ResultStore) -> None:
        for seed in range(self.sequences):
            try:
                await self._compare(store, random.Random(seed))
            except BaseException as error:
                error.add_note(f"in the sequence {seed}")
                raise

    async def _compare(self, store: ResultStore, draw: random.Random) -> None:
        model: dict[str, bytes] = {}
        keys = [f"{draw.choice('12')}/{draw.choice(NAMES)}/{number}.json" for number in range(5)]
        for _ in range(25):
            key = draw.choice(keys)
            match draw.choice(("put", "put", "file", "get", "range", "into", "delete", "list")):
                case "put":
                    await self._put(store, model, key, draw.randbytes(draw.choice(self.sizes)))
                case "file":
                    await self._put(store, model, key, draw.randbytes(draw.choice(self.sizes)), by_file=True)
                case "get":
                    assert await _content(store.get, key) == model.get(key)
                case "range":
                    part = draw.choice(self.sizes), draw.choice(self.sizes)
                    kept = model.get(key)
                    expected = None if kept is None else kept[part[0] : sum(part)]
                    assert await _content(partial(store.get_range, offset=part[0], length=part[1]), key) == expected
                case "into":
                    assert await _content(lambda key: _read_into_file(store, key), key) == model.get(key)
                case "delete":
                    await store.delete(key)
                    model.pop(key, None)
                case "list":
                    prefix = key[: draw.randrange(len(key))]
                    expected_keys = sorted(key for key in model if key.startswith(prefix))
                    assert [key async for key in store.list(prefix)] == expected_keys
        for key in keys:
            await store.delete(key)
        assert [key async for key in store.list("")] == []

    async def _put(
        self, store: ResultStore, model: dict[str, bytes], key: str, data: bytes, *, by_file: bool = False
    ) -> None:
        put = _put_file(store, key, data) if by_file else store.put(key, data)
        if model.setdefault(key, data) != data:
            with pytest.raises(Conflict):
                await put
        else:
            assert await put == StoredObject(store.name, key, len(data))

    async def test_of_two_writers_of_a_key_one_wins_as_a_whole(self, store: ResultStore) -> None:
        size = max(self.sizes)
        for number in range(6):
            key, contents = f"1/a/{number}.json", [bytes([writer]) * size for writer in range(3)]
            ends = await asyncio.gather(*(store.put(key, content) for content in contents), return_exceptions=True)
            won = [content for content, end in zip(contents, ends, strict=True) if isinstance(end, StoredObject)]
            assert len(won) == 1, ends
            assert [type(end) for end in ends if not isinstance(end, StoredObject)] == [Conflict, Conflict]
            assert await store.get(key) == won[0], "what two have written is mixed"

    async def test_writers_of_the_same_bytes_all_succeed(self, store: ResultStore) -> None:
        content = random.Random(7).randbytes(max(self.sizes))
        ends = await asyncio.gather(*(store.put("1/a/k.json", content) for _ in range(4)))
        assert ends == [StoredObject(store.name, "1/a/k.json", len(content))] * 4
        assert await store.get("1/a/k.json") == content

    async def test_who_reads_while_it_is_deleted_gets_all_of_it_or_nothing(self, store: ResultStore) -> None:
        content = random.Random(7).randbytes(max(self.sizes))
        for number in range(8):
            key = f"1/a/{number}.json"
            await store.put(key, content)
            reading = [asyncio.create_task(_content(store.get, key)) for _ in range(3)]
            reading.append(asyncio.create_task(_content(lambda key: _read_into_file(store, key), key)))
            await asyncio.sleep(number / 2000)
            await store.delete(key)
            assert set(await asyncio.gather(*reading)) <= {content, None}
            assert await _content(store.get, key) is None


async def _content(read: object, key: str) -> bytes | None:
    try:
        content: bytes = await read(key)  # type: ignore[operator]
    except KeyError:
        return None
    return content


async def _put_file(store: ResultStore, key: str, data: bytes) -> StoredObject:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return await store.put_file(key, file.fileno(), len(data))


async def _read_into_file(store: ResultStore, key: str) -> bytes:
    with tempfile.TemporaryFile() as file:
        size = await store.get_file(key, file.fileno())
        return os.pread(file.fileno(), size + 1, 0)
