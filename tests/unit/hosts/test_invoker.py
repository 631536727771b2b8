from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from noetl_serverless.hosts.local.invoker import HttpInvoker
from noetl_serverless.testing.host import MemoryInvoker


class Bell:
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
async def bell() -> Bell:
    return Bell()


@pytest.fixture
async def invoker(bell: Bell) -> AsyncIterator[HttpInvoker]:
    app = web.Application()
    app.router.add_post("/", bell.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    invoker = HttpInvoker({"shared": f"http://127.0.0.1:{port}/", "gone": "http://127.0.0.1:9/"}, "token")
    yield invoker
    await invoker.close()
    await runner.cleanup()


async def test_an_invocation_carries_the_payload_and_the_token(bell: Bell, invoker: HttpInvoker) -> None:
    await invoker.invoke("shared", {"pool": "shared"})
    await bell.next()
    assert bell.invocations == [{"pool": "shared"}]
    assert bell.tokens == {"Bearer token"}


async def test_many_rings_during_one_become_one_more(bell: Bell, invoker: HttpInvoker) -> None:
    await invoker.invoke("shared", {"first": True})
    await bell.next()
    for _ in range(20):
        await invoker.invoke("shared", {"pool": "shared"})
    await invoker.invoke("shared", {"sweep": True})
    await invoker.invoke("shared", {"pool": "shared"})
    assert len(bell.invocations) == 1
    bell.go.set()
    await bell.next()
    await asyncio.sleep(0.1)
    assert bell.invocations == [{"first": True}, {"pool": "shared", "sweep": True}]


async def test_a_delayed_invocation_comes_later(bell: Bell, invoker: HttpInvoker) -> None:
    bell.go.set()
    await invoker.invoke("shared", {"n": 2}, delay=0.2)
    await invoker.invoke("shared", {"n": 1})
    await bell.next()
    await bell.next()
    assert bell.invocations == [{"n": 1}, {"n": 2}]


async def test_a_function_that_is_down_or_unknown_is_no_error_of_the_caller_and_keeps_nobody_from_others(
    bell: Bell, invoker: HttpInvoker
) -> None:
    bell.go.set()
    for name in ("gone", "nobody", "gone", "shared"):
        await invoker.invoke(name, {"to": name})
    await bell.next()
    assert bell.invocations == [{"to": "shared"}]


async def test_the_twin_keeps_what_was_invoked() -> None:
    twin = MemoryInvoker()
    await twin.invoke("shared", {"pool": "shared"}, delay=2)
    assert [(invocation.function, invocation.delay) for invocation in twin.invocations] == [("shared", 2)]
