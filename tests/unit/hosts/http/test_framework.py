from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from functions_framework.aio import _create_asgi_app_with_function
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.assembly.service import Service
from noetl_serverless.hosts.http.framework import serve, serve_when_ready


class Recorder:
    """An app that notes what happens to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.requested = asyncio.Event()
        self.go = asyncio.Event()

    def app(self) -> Starlette:
        return Starlette(
            lifespan=self.lifespan,
            routes=[
                Route("/items/{item}", self.item, methods=["GET", "PUT"]),
                Route("/slow", self.slow),
                Route("/stream", self.stream),
            ],
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        self.happened.append("started")
        yield {"shared": 7}
        self.happened.append("ended")

    async def item(self, request: Request) -> JSONResponse:
        body = (await request.body()).decode()
        return JSONResponse({"item": request.path_params["item"], "body": body, "shared": request.state.shared}, 201)

    async def slow(self, request: Request) -> JSONResponse:
        self.happened.append("asked")
        self.requested.set()
        await self.go.wait()
        self.happened.append("answered")
        return JSONResponse({})

    async def stream(self, request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            yield "two"

        return StreamingResponse(parts())


async def call(app: Any, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    """One request by the ASGI protocol, as the server makes it."""
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [], "scheme": "http", "server": ("127.0.0.1", 80), "client": None,
        "root_path": "", "asgi": {"version": "3.0"}, "state": {},
    }  # fmt: skip
    messages: list[dict[str, Any]] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], content


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def test_the_app_sees_the_request_as_if_the_framework_were_not_there(recorder: Recorder) -> None:
    app = _create_asgi_app_with_function(serve(Service(recorder.app(), ())), "http", False)
    status, body = await call(app, "/items/3", "PUT", b"hello")
    assert (status, body) == (201, b'{"item":"3","body":"hello","shared":7}')
    assert (await call(app, "/nothing"))[0] == 404
    assert await call(app, "/stream") == (200, b"one two")


async def test_it_starts_once_with_the_first_requests(recorder: Recorder) -> None:
    app = _create_asgi_app_with_function(serve(Service(recorder.app(), ())), "http", False)
    assert recorder.happened == []
    await asyncio.gather(*(call(app, "/items/1") for _ in range(5)))
    assert recorder.happened == ["started"]


async def test_sigterm_lets_requests_end_then_the_app_then_the_server(recorder: Recorder) -> None:
    server = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(server.set))
    drained = asyncio.Event()

    async def close() -> None:
        recorder.happened.append("closed")

    try:
        function = serve(Service(recorder.app(), (close,), on_drain=drained.set))
        app = _create_asgi_app_with_function(function, "http", False)
        request = asyncio.create_task(call(app, "/slow"))
        await recorder.requested.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await drained.wait()
        assert (await call(app, "/items/1"))[0] == 503
        assert not server.is_set()
        recorder.go.set()
        async with asyncio.timeout(30):
            await server.wait()
        assert (await request)[0] == 200
    finally:
        signal.signal(signal.SIGTERM, before)
    assert recorder.happened == ["started", "asked", "answered", "ended", "closed"]


async def test_an_app_that_fails_to_start_fails_the_request_and_is_tried_again() -> None:
    tries = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("not yet")
        yield

    inner = Starlette(lifespan=lifespan, routes=[Route("/", lambda request: JSONResponse({}))])
    app = _create_asgi_app_with_function(serve(Service(inner, ())), "http", False)
    assert (await call(app, "/"))[0] == 500
    assert (await call(app, "/"))[0] == 200


async def test_a_service_that_cannot_be_made_yet_is_made_by_a_later_request(recorder: Recorder) -> None:
    tries = []

    async def make() -> Service:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("the secret 'token_key' has no value")
        return Service(recorder.app(), ())

    app = _create_asgi_app_with_function(serve_when_ready(make), "http", False)
    status, body = await call(app, "/items/1")
    assert status == 503
    assert b"server.unavailable" in body and b"token_key" in body
    await asyncio.gather(*(call(app, "/items/1") for _ in range(5)))
    assert (len(tries), recorder.happened) == (2, ["started"])


async def test_requests_that_wait_for_a_start_share_its_failure() -> None:
    tries = []

    async def make() -> Service:
        tries.append(1)
        await asyncio.sleep(0.01)
        raise Unavailable("the database is away")

    app = _create_asgi_app_with_function(serve_when_ready(make), "http", False)
    answers = await asyncio.gather(*(call(app, "/items/1") for _ in range(5)))
    assert ({status for status, _ in answers}, len(tries)) == ({503}, 1)


async def test_a_request_that_is_cancelled_does_not_end_the_start_of_the_others(recorder: Recorder) -> None:
    async def make() -> Service:
        await asyncio.sleep(0.01)
        return Service(recorder.app(), ())

    app = _create_asgi_app_with_function(serve_when_ready(make), "http", False)
    first, second = (asyncio.create_task(call(app, "/items/1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0] == 201
    assert recorder.happened == ["started"]
