"""What holds for each store of results; the tests of a store inherit it, and make the fixture `store`."""

from __future__ import annotations

import random
import tempfile

import pytest

from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore

NAMES = ("1/ /a b", "1/é/日本.json", "1/%2F/100%", "1/+&=?#/<a>&amp;;'\"", "1/.a/a..b", "1/a:b@c~d,e!f$(g)*")


class ResultStoreContract:
    # of a file that is put: more than one part of an object that is stored in parts
    file_bytes = 8 * 2**20 + 5

    async def test_what_is_put_can_be_got(self, store: ResultStore) -> None:
        stored = await store.put("1/load/ab.json", b"[1,2]")
        assert stored.key == "1/load/ab.json"
        assert stored.bytes == 5
        assert await store.get("1/load/ab.json") == b"[1,2]"

    async def test_what_is_not_there_is_a_key_error(self, store: ResultStore) -> None:
        with pytest.raises(KeyError):
            await store.get("1/load/none.json")

    async def test_a_part_can_be_got(self, store: ResultStore) -> None:
        await store.put("1/a/k.json", b"0123456789")
        assert await store.get_range("1/a/k.json", 2, 3) == b"234"
        assert await store.get_range("1/a/k.json", 8, 30) == b"89"
        assert await store.get_range("1/a/k.json", 10, 5) == b""
        with pytest.raises(KeyError):
            await store.get_range("1/a/none.json", 0, 1)

    async def test_a_file_can_be_put_and_got(self, store: ResultStore) -> None:
        content = random.Random(1).randbytes(self.file_bytes)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(content + b"more")
            source.flush()
            source.seek(7)
            stored = await store.put_file("1/a/file.arrow", source.fileno(), len(content))
            assert (stored.key, stored.bytes) == ("1/a/file.arrow", len(content))
            assert source.tell() == 7, "the file's position has moved"
            assert await store.get_file("1/a/file.arrow", target.fileno()) == len(content)
            target.seek(0)
            assert target.read() == content
            with pytest.raises(EOFError):
                await store.put_file("1/a/short.arrow", source.fileno(), len(content) + 5)
            for key in ("1/a/short.arrow", "1/a/none.arrow"):
                with pytest.raises(KeyError):
                    await store.get_file(key, target.fileno())

    @pytest.mark.parametrize("size", [0, 1, None], ids=["nothing", "a byte", "parts"])
    async def test_what_is_put_as_a_file_can_be_got_as_bytes_and_the_other_way_round(
        self, store: ResultStore, size: int | None
    ) -> None:
        size = self.file_bytes if size is None else size
        content = random.Random(size).randbytes(size)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(content)
            source.flush()
            await store.put_file("1/a/as-file", source.fileno(), size)
            assert await store.get("1/a/as-file") == content
            await store.put("1/a/as-bytes", content)
            assert await store.get_file("1/a/as-bytes", target.fileno()) == size
            target.seek(0)
            assert target.read() == content
            assert await store.get_range("1/a/as-file", size // 2, 100) == content[size // 2 :][:100]

    async def test_writing_the_same_again_changes_nothing(self, store: ResultStore) -> None:
        size = self.file_bytes
        content = bytes(size)
        with tempfile.TemporaryFile() as source:
            source.truncate(size)
            for _ in range(2):
                assert (await store.put_file("1/a/again", source.fileno(), size)).bytes == size
                assert await store.get("1/a/again") == content
                assert [key async for key in store.list("1/")] == ["1/a/again"]

    @pytest.mark.parametrize("key", NAMES)
    async def test_a_key_may_have_any_name(self, store: ResultStore, key: str) -> None:
        await store.put(key, key.encode())
        assert await store.get(key) == key.encode()
        assert [key async for key in store.list("1/")] == [key]
        assert [key async for key in store.list(key)] == [key]
        await store.delete(key)
        assert [key async for key in store.list("")] == []

    async def test_deleting_twice_is_fine(self, store: ResultStore) -> None:
        await store.put("1/a/k.json", b"x")
        await store.delete("1/a/k.json")
        await store.delete("1/a/k.json")
        with pytest.raises(KeyError):
            await store.get("1/a/k.json")

    async def test_listing_by_prefix(self, store: ResultStore) -> None:
        for key in ("1/a/x.json", "1/b/y.json", "12/a/z.json"):
            await store.put(key, b"x")
        assert [key async for key in store.list("1/")] == ["1/a/x.json", "1/b/y.json"]
        assert [key async for key in store.list("1")] == ["1/a/x.json", "1/b/y.json", "12/a/z.json"]
        assert [key async for key in store.list("9/")] == []

    async def test_a_listing_goes_on_after_a_key(self, store: ResultStore) -> None:
        keys = ["1/a-b/x.json", "1/a.json", "1/a/x.json", "1/b/y.json", "12/a/z.json", "2/a/z.json"]
        for key in reversed(keys):
            await store.put(key, b"x")
        for place, after in enumerate(keys):
            assert [key async for key in store.list("", after)] == keys[place + 1 :], f"after {after}"
        assert [key async for key in store.list("1/", "1/a.json")] == ["1/a/x.json", "1/b/y.json"]
        assert [key async for key in store.list("1", "10")] == ["12/a/z.json"]
        assert [key async for key in store.list("", "3")] == []

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x"])
    async def test_keys_do_not_leave_the_store(self, store: ResultStore, key: str) -> None:
        with pytest.raises(ValueError, match="storage key"):
            await store.put(key, b"x")


class FsspecContract(ResultStoreContract):
    async def test_writing_again_replaces(self, store: FsspecResultStore) -> None:
        await store.put("1/a/k.json", b"old")
        await store.put("1/a/k.json", b"new")
        assert await store.get("1/a/k.json") == b"new"

    @pytest.mark.parametrize("key", ["1/a", "1/a/k.json/below", "1/" + "n" * 300])
    async def test_what_no_file_can_be_is_not_there(self, store: FsspecResultStore, key: str) -> None:
        await store.put("1/a/k.json", b"x")
        for read in (store.get(key), store.get_range(key, 0, 1)):
            with pytest.raises(Exception) as raised:  # noqa: PT011
                await read
            assert raised.type is KeyError
