from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from tests.unit.results.contract import FsspecContract

from noetl_serverless.results.store import FsspecResultStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecResultStore:
    url = f"file://{tmp_path}/results" if request.param == "file" else f"memory://{secrets.token_hex(6)}"
    return FsspecResultStore(url)


class TestContract(FsspecContract):
    """In a folder and in memory."""


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecResultStore(f"file://{tmp_path}")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        store.put_sync("1/a/k.json", b"x" * 100)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_url_of_a_folder_is_percent_encoded_as_any(tmp_path: Path) -> None:
    folder = tmp_path / "my results 100%"
    FsspecResultStore(folder.as_uri()).put_sync("1/a/k.json", b"x")
    assert (folder / "1/a/k.json").read_bytes() == b"x", [path.name for path in tmp_path.iterdir()]


def test_a_folder_that_was_named_by_an_encoded_url_is_used_on(tmp_path: Path) -> None:
    earlier = tmp_path / "my%20results"
    earlier.mkdir()
    FsspecResultStore(f"file://{earlier}").put_sync("1/a/k.json", b"x")
    assert (earlier / "1/a/k.json").exists()


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


@pytest.mark.parametrize("instead", ["nothing", "a file"])
async def test_what_is_in_a_folder_that_has_gone_is_not_missing(tmp_path: Path, instead: str) -> None:
    """As that of a mount that is away for a moment: what is read from it is waited for, not given up."""
    root = tmp_path / "results"
    store = FsspecResultStore(f"file://{root}")
    await store.put("1/a/k.json", b"x")
    root.rename(tmp_path / "aside")
    if instead == "a file":
        root.touch()
        # also to one that has not seen the folder
        store = FsspecResultStore(f"file://{root}")
    for read in (store.get("1/a/k.json"), store.get("1/a/none.json"), store.get_range("1/a/k.json", 0, 1)):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            await read
    root.unlink(missing_ok=True)
    (tmp_path / "aside").rename(root)
    assert await store.get("1/a/k.json") == b"x"
    with pytest.raises(KeyError):
        await store.get("1/a/none.json")


async def test_a_folder_that_was_never_there_has_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await FsspecResultStore(f"file://{tmp_path}/results").get("1/a/k.json")
