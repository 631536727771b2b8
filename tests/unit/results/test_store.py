from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from noetl_serverless.results.store import FsspecResultStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecResultStore:
    url = f"file://{tmp_path}/results" if request.param == "file" else f"memory://{secrets.token_hex(6)}"
    return FsspecResultStore(url)


async def test_what_is_put_can_be_got(store: FsspecResultStore) -> None:
    stored = await store.put("1/load/ab.json", b"[1,2]")
    assert stored.key == "1/load/ab.json"
    assert stored.bytes == 5
    assert await store.get("1/load/ab.json") == b"[1,2]"


async def test_what_is_not_there_is_a_key_error(store: FsspecResultStore) -> None:
    with pytest.raises(KeyError):
        await store.get("1/load/none.json")


async def test_a_part_can_be_got(store: FsspecResultStore) -> None:
    await store.put("1/a/k.json", b"0123456789")
    assert await store.get_range("1/a/k.json", 2, 3) == b"234"
    assert await store.get_range("1/a/k.json", 8, 30) == b"89"
    assert await store.get_range("1/a/k.json", 10, 5) == b""
    with pytest.raises(KeyError):
        await store.get_range("1/a/none.json", 0, 1)


async def test_writing_again_replaces(store: FsspecResultStore) -> None:
    await store.put("1/a/k.json", b"old")
    await store.put("1/a/k.json", b"new")
    assert await store.get("1/a/k.json") == b"new"


async def test_deleting_twice_is_fine(store: FsspecResultStore) -> None:
    await store.put("1/a/k.json", b"x")
    await store.delete("1/a/k.json")
    await store.delete("1/a/k.json")
    with pytest.raises(KeyError):
        await store.get("1/a/k.json")


async def test_listing_by_prefix(store: FsspecResultStore) -> None:
    for key in ("1/a/x.json", "1/b/y.json", "12/a/z.json"):
        await store.put(key, b"x")
    assert [key async for key in store.list("1/")] == ["1/a/x.json", "1/b/y.json"]
    assert [key async for key in store.list("1")] == ["1/a/x.json", "1/b/y.json", "12/a/z.json"]
    assert [key async for key in store.list("9/")] == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x"])
async def test_keys_do_not_leave_the_store(store: FsspecResultStore, key: str) -> None:
    with pytest.raises(ValueError, match="storage key"):
        await store.put(key, b"x")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecResultStore(f"file://{tmp_path}")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        store.put_sync("1/a/k.json", b"x" * 100)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_half_written_files_are_listed_so_that_they_are_deleted(tmp_path: Path) -> None:
    store = FsspecResultStore(f"file://{tmp_path}")
    await store.put("1/a/k.json", b"x")
    (tmp_path / "1/a/other.json.0011.tmp").write_bytes(b"half")
    assert [key async for key in store.list("1/")] == ["1/a/k.json", "1/a/other.json.0011.tmp"]


async def test_an_empty_folder_goes_with_its_last_object(tmp_path: Path) -> None:
    store = FsspecResultStore(f"file://{tmp_path}/results")
    for key in ("1/a/k.json", "1/b/k.json"):
        await store.put(key, b"x")
    await store.delete("1/a/k.json")
    assert [path.name for path in (tmp_path / "results/1").iterdir()] == ["b"]
    await store.delete("1/b/k.json")
    assert list((tmp_path / "results").iterdir()) == []
    await store.put("1/a/k.json", b"x")


async def test_a_folder_is_named_disk(tmp_path: Path) -> None:
    assert (await FsspecResultStore(f"file://{tmp_path}").put("1/a/k", b"")).store == "disk"


@pytest.mark.parametrize("key", ["1/a", "1/a/k.json/below", "1/" + "n" * 300])
async def test_what_no_file_can_be_is_not_there(store: FsspecResultStore, key: str) -> None:
    await store.put("1/a/k.json", b"x")
    for read in (store.get(key), store.get_range(key, 0, 1)):
        with pytest.raises(Exception) as raised:  # noqa: PT011
            await read
        assert raised.type is KeyError
