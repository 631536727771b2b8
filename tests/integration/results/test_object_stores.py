"""Every object store keeps the contract, on real servers, and does in any order of calls what a dict does."""

from __future__ import annotations

import random
import tempfile

import pytest
from tests.unit.results.contract import ResultStoreContract

from noetl_serverless.ports import ResultStore

STEPS = 60
_NAMES = ("load", "ünï", "a b", "100%", "x+y", "#1", "q?", "<&>", "~", "a'b", "日本", ".hidden", "n" * 80)


class TestContract(ResultStoreContract):
    """Disk, memory, two servers of S3, and one of Cloud Storage."""


class Model:
    """What the store holds. The content goes by the key, as the key goes by the content."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.objects: dict[str, bytes] = {}

    def new_key(self) -> str:
        names = (self.random.choice(_NAMES) for _ in range(self.random.randint(1, 2)))
        return "/".join([str(self.random.randint(1, 3)), *names, self.random.randbytes(4).hex()])

    def key(self) -> str:
        """One that is there, or one that is not."""
        if self.objects and self.random.random() < 0.8:
            return self.random.choice(sorted(self.objects))
        return self.new_key()

    def content(self, key: str, *, large: bool = False) -> bytes:
        size = ResultStoreContract.file_bytes if large else self.random.choice([0, 1, 1000, 70_000, 2**20])
        return random.Random(key).randbytes(size)


@pytest.mark.parametrize("seed", [14])
async def test_any_sequence_of_calls_does_what_a_dict_does(store: ResultStore, seed: int) -> None:
    model = Model(seed)
    for step in range(STEPS):
        verb = model.random.choice(["put", "put", "put_file", "get", "get_file", "range", "range", "list", "delete"])
        await _step(store, model, verb, large=step % 20 == 0)
    assert [key async for key in store.list("")] == sorted(model.objects), f"the listing differs (seed {seed})"
    for key, content in model.objects.items():
        assert await store.get(key) == content, f"{key!r} differs (seed {seed})"


async def _step(store: ResultStore, model: Model, verb: str, *, large: bool) -> None:
    if verb in ("put", "put_file"):
        key = model.new_key()
        content = model.objects[key] = model.content(key, large=large)
        if verb == "put":
            stored = await store.put(key, content)
        else:
            with tempfile.TemporaryFile() as source:
                source.write(content + b"not of it")
                source.flush()
                stored = await store.put_file(key, source.fileno(), len(content))
        assert (stored.store, stored.key, stored.bytes) == (store.name, key, len(content))
        return
    key = model.key()
    expected = model.objects.get(key)
    if verb == "list":
        prefix = key[: model.random.randint(0, len(key))]
        found = [key async for key in store.list(prefix)]
        assert found == sorted(one for one in model.objects if one.startswith(prefix)), f"below {prefix!r}"
    elif verb == "delete":
        await store.delete(key)
        model.objects.pop(key, None)
    elif expected is None:
        await _nothing(store, key)
    elif verb == "get_file":
        with tempfile.TemporaryFile() as target:
            assert await store.get_file(key, target.fileno()) == len(expected)
            target.seek(0)
            assert target.read() == expected
    elif verb == "range":
        offset, length = model.random.randint(0, len(expected) + 2), model.random.randint(1, 100_000)
        assert await store.get_range(key, offset, length) == expected[offset : offset + length]
    else:
        assert await store.get(key) == expected


async def _nothing(store: ResultStore, key: str) -> None:
    with pytest.raises(KeyError):
        await store.get(key)
    with pytest.raises(KeyError):
        await store.get_range(key, 0, 10)
    with tempfile.TemporaryFile() as target, pytest.raises(KeyError):
        await store.get_file(key, target.fileno())
