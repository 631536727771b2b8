from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noetl_serverless.ports import ResultStore, StoredObject
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import MAX_BYTES, NoObjectStore, ResultStores
from noetl_serverless.results.whole import WholeObjects

LARGE = 100_000_000


class Small(WholeObjects, ResultStore):
    """Stands for a store of small objects."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> StoredObject:
        self.kept[key] = data
        return StoredObject(self.name, key, len(data))

    async def get(self, key: str) -> bytes:
        return self.kept[key]

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.kept[key][offset : offset + length]

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        for key in sorted(self.kept):
            if key.startswith(prefix) and key > after:
                yield key


@pytest.fixture
def disk(tmp_path: Path) -> FsspecResultStore:
    return FsspecResultStore(f"file://{tmp_path}")


def test_auto_takes_the_object_store_unless_the_deployment_prefers_another(disk: FsspecResultStore) -> None:
    kv, postgres = Small("kv"), Small("postgres")
    assert ResultStores(disk, kv=kv, postgres=postgres).choose("auto", 100).name == "disk"
    assert ResultStores(disk, kv=kv, postgres=postgres, auto=["kv"]).choose("auto", 100).name == "kv"
    assert ResultStores(postgres=postgres).choose("auto", LARGE).name == "postgres"


def test_what_a_store_cannot_take_goes_where_auto_puts_it(disk: FsspecResultStore) -> None:
    stores = ResultStores(disk, kv=Small("kv"), auto=["kv"])
    assert stores.choose("kv", MAX_BYTES["kv"]).name == "kv"
    assert stores.choose("kv", MAX_BYTES["kv"] + 1).name == "disk"
    assert stores.choose("auto", LARGE).name == "disk"


@pytest.mark.parametrize("kind", ["disk", "object", "s3", "gcs"])
def test_every_kind_of_object_store_means_that_of_the_deployment(disk: FsspecResultStore, kind: str) -> None:
    assert ResultStores(disk, kv=Small("kv"), auto=["kv"]).choose(kind, 1).name == "disk"
    assert ResultStores(postgres=Small("postgres")).choose(kind, 1).name == "postgres"


def test_a_store_that_this_deployment_lacks_is_as_good_as_auto(disk: FsspecResultStore) -> None:
    assert ResultStores(disk).choose("db", 1).name == "disk"
    assert ResultStores(disk, postgres=Small("postgres")).choose("db", 1).name == "postgres"


def test_a_deployment_needs_a_place_for_large_results(disk: FsspecResultStore) -> None:
    with pytest.raises(ValueError, match="object store or PostgreSQL"):
        ResultStores(kv=Small("kv"))
    with pytest.raises(ValueError, match="no result store kv; there are disk"):
        ResultStores(disk, auto=["kv"])


def test_an_object_store_is_for_what_needs_one(disk: FsspecResultStore) -> None:
    kv, postgres = Small("kv"), Small("postgres")
    assert ResultStores(disk, kv=kv, postgres=postgres, auto=["kv", "postgres"]).objects() is disk
    with pytest.raises(NoObjectStore, match="set NOETL_RESULT_URL"):
        ResultStores(kv=kv, postgres=postgres).objects()


def test_the_default_takes_objects_of_any_size(disk: FsspecResultStore) -> None:
    kv, postgres = Small("kv"), Small("postgres")
    assert ResultStores(disk, kv=kv, postgres=postgres, auto=["kv", "postgres"]).default is disk
    assert ResultStores(kv=kv, postgres=postgres, auto=["postgres", "kv"]).default is postgres


def test_a_reference_names_its_store(disk: FsspecResultStore) -> None:
    assert ResultStores(disk).named("disk") is disk
    with pytest.raises(KeyError):
        ResultStores(disk).named("s3")


async def test_small_objects_are_taken_from_files_and_written_to_files(tmp_path: Path) -> None:
    store, path = Small("kv"), tmp_path / "content"
    path.write_bytes(b"0123456789")
    file = os.open(path, os.O_RDONLY)
    try:
        assert await store.put_file("1/a/k.json", file, 10) == StoredObject("kv", "1/a/k.json", 10)
        with pytest.raises(EOFError, match="ends after 10 of 11 bytes"):
            await store.put_file("1/a/l.json", file, 11)
    finally:
        os.close(file)
    target = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    try:
        assert await store.get_file("1/a/k.json", target) == 10
        with pytest.raises(KeyError):
            await store.get_file("1/a/l.json", target)
    finally:
        os.close(target)
    assert (tmp_path / "copy").read_bytes() == b"0123456789"
