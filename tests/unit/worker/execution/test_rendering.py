"""Results by reference are fetched when a template needs them, each once."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.worker.execution.rendering import INLINE_BYTES, ReferenceLoader


class Resolver:
    def __init__(self) -> None:
        self.fetched: list[str] = []

    async def load(self, ref: dict[str, Any]) -> Any:
        self.fetched.append(ref["ref"])
        if ref["ref"] == "gone":
            raise NotFound("gone")
        return {"of": ref["ref"]}

    def file_of(self, ref: dict[str, Any]) -> None:
        return None


def ref(name: str, size: int = 1) -> dict[str, Any]:
    return {"ref": name, "meta": {"bytes": size}}


async def test_what_is_asked_for_is_fetched_once() -> None:
    resolver: Any = Resolver()
    lazy = ReferenceLoader(resolver)
    produced: list[int] = []

    def produce(fetch: Any) -> Any:
        produced.append(1)
        return [fetch(ref("a")), fetch(ref("b")), fetch(ref("a"))]

    assert await lazy.render(produce) == [{"of": "a"}, {"of": "b"}, {"of": "a"}]
    assert (resolver.fetched, len(produced)) == (["a", "b"], 3)
    assert await lazy.render(lambda fetch: fetch(ref("b"))) == {"of": "b"}
    assert await lazy.load({"ref": "b"}) == {"of": "b"}
    assert resolver.fetched == ["a", "b"]
    assert await lazy.render(lambda fetch: 7) == 7


async def test_who_swallows_that_something_is_missing_is_asked_again() -> None:
    resolver: Any = Resolver()

    def produce(fetch: Any) -> Any:
        try:
            return fetch(ref("a"))["of"]
        except Exception:
            return "default"

    assert await ReferenceLoader(resolver).render(produce) == "a"


async def test_errors_come_through() -> None:
    resolver: Any = Resolver()
    with pytest.raises(ZeroDivisionError):
        await ReferenceLoader(resolver).render(lambda fetch: 1 / 0)
    with pytest.raises(NotFound):
        await ReferenceLoader(resolver).render(lambda fetch: fetch(ref("gone")))
    with pytest.raises(KeyError):
        await ReferenceLoader(resolver).render(lambda fetch: fetch(ref("a"))["nothing"])


@pytest.mark.parametrize(("size", "beside"), [(1024 * 1024, False), (512 * 1024 + 1, False), (1024 * 1024 + 1, True)])
async def test_what_reads_much_is_rendered_beside_the_event_loop(size: int, beside: bool) -> None:
    resolver: Any = Resolver()
    lazy = ReferenceLoader(resolver)

    def produce(fetch: Any) -> Any:
        fetch(ref("a", size))
        return threading.current_thread() is not threading.main_thread()

    assert await lazy.render(produce) is beside


async def test_sizes_add_up() -> None:
    resolver: Any = Resolver()
    lazy = ReferenceLoader(resolver)
    for name in ("a", "b"):
        await lazy.load(ref(name, INLINE_BYTES // 2 + 1))
    assert await lazy.render(lambda fetch: threading.current_thread() is not threading.main_thread())
    assert await lazy.load({"ref": "c"}) == {"of": "c"}


async def test_what_was_loaded_goes_with_its_last_user() -> None:
    class Loaded(dict[str, Any]):
        pass

    class Keeping(Resolver):
        async def load(self, ref: dict[str, Any]) -> Any:
            return Loaded(large="x")

    def produce(fetch: Any) -> Any:
        try:
            return len(fetch(ref("a")))
        except Exception as error:
            # as a frame of a template's does that the error comes through
            kept = error
            raise ValueError("not rendered") from kept

    resolver: Any = Keeping()
    lazy = ReferenceLoader(resolver)
    gc.collect()
    gc.disable()
    try:
        assert await lazy.render(produce) == 1
        loaded = weakref.ref(await lazy.load(ref("a")))
        del lazy
        assert loaded() is None, "it stays until the garbage collector finds it"
    finally:
        gc.enable()
