from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.serving import serving_app

from noetl_serverless.hosts.local import invoker as module
from noetl_serverless.hosts.local.invoker import HttpInvoker
from noetl_serverless.testing.host import MemoryInvoker


class Function:
    """A function that answers an invocation when it is let go."""

    def __init__(self) -> None:
        self.invocations: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.go = asyncio.Event()
        self.invoked = asyncio.Event()

    async def receive(self, request: web.Request) -> web.Response:
        self.invocations.append(await request.json())
        self.tokens.add(request.headers["Authorization"])
        self.invoked.set()
        await self.go.wait()
        return web.json_response({})

    async def next(self) -> None:
        async with asyncio.timeout(30):
            await self.invoked.wait()
        self.invoked.clear()


@pytest.fixture
async def function() -> Function:
    return Function()


@pytest.fixture
async def invoker(function: Function) -> AsyncIterator[HttpInvoker]:
    app = web.Application()
    app.router.add_post("/", function.receive)
    async with serving_app(app) as url:
        invoker = HttpInvoker({"shared": f"{url}/", "gone": "http://127.0.0.1:9/"}, "token")
        yield invoker
        await invoker.close()


async def test_an_invocation_carries_the_payload_and_the_token(function: Function, invoker: HttpInvoker) -> None:
    await invoker.invoke("shared", {"pool": "shared"})
    await function.next()
    assert function.invocations == [{"pool": "shared"}]
    assert function.tokens == {"Bearer token"}


async def test_many_invocations_during_one_become_one_more(function: Function, invoker: HttpInvoker) -> None:
    await invoker.invoke("shared", {"first": True})
    await function.next()
    for _ in range(20):
        await invoker.invoke("shared", {"pool": "shared"})
    await invoker.invoke("shared", {"sweep": True})
    await invoker.invoke("shared", {"pool": "shared"})
    assert len(function.invocations) == 1
    function.go.set()
    await function.next()
    await asyncio.sleep(0.1)
    assert function.invocations == [{"first": True}, {"pool": "shared", "sweep": True}]


async def test_a_delayed_invocation_comes_later(function: Function, invoker: HttpInvoker) -> None:
    function.go.set()
    await invoker.invoke("shared", {"n": 2}, delay=0.2)
    await invoker.invoke("shared", {"n": 1})
    await function.next()
    await function.next()
    assert function.invocations == [{"n": 1}, {"n": 2}]


async def test_what_is_due_together_is_invoked_once(
    function: Function, invoker: HttpInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 0.5)
    function.go.set()
    loop = asyncio.get_running_loop()
    # all within one interval
    await asyncio.sleep(0.5 - loop.time() % 0.5)
    due = loop.time() + 0.3
    for n in range(1000):
        await invoker.invoke("shared", {str(n % 3): n}, delay=0.3 + n / 100_000)
    await function.next()
    assert loop.time() >= due, "it came too early for a timer"
    await asyncio.sleep(0.1)
    assert function.invocations == [{"0": 999, "1": 997, "2": 998}]


async def test_of_too_many_at_different_times_the_last_are_lost(
    function: Function, invoker: HttpInvoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PLANNED", 2)
    function.go.set()
    for n in range(4):
        await invoker.invoke("shared", {"n": n}, delay=0.2 * (n + 1))
    await asyncio.sleep(1.2)
    assert function.invocations == [{"n": 0}, {"n": 1}]


async def test_a_function_that_is_down_or_unknown_is_no_error_of_the_caller_and_keeps_nobody_from_others(
    function: Function, invoker: HttpInvoker
) -> None:
    function.go.set()
    for name in ("gone", "nobody", "gone", "shared"):
        await invoker.invoke(name, {"to": name})
    await function.next()
    assert function.invocations == [{"to": "shared"}]


async def test_the_in_memory_invoker_keeps_what_was_invoked() -> None:
    fake = MemoryInvoker()
    await fake.invoke("shared", {"pool": "shared"}, delay=2)
    assert [(invocation.function, invocation.delay) for invocation in fake.invocations] == [("shared", 2)]
