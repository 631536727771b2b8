"""The gateway with its sessions where they are: in a bucket of a real NATS."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from starlette.types import ASGIApp
from tests.serving import serving_app

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.settings import Settings


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The app behind a real HTTP server, in this event loop."""
    import asyncio

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server.serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    listener.close()


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-user": request.headers["x-noetl-user"]})
        await response.prepare(request)
        async for chunk in request.content.iter_chunked(65536):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def drop(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application(client_max_size=2**30)
    app.router.add_post("/api/catalog/register", stream)
    app.router.add_get("/api/executions", drop)
    async with serving_app(app) as url:
        yield url


@pytest.fixture
async def gateway(nats_url: str, upstream: str) -> AsyncIterator[str]:
    connection = NatsConnection(nats_url)
    values = NatsKeyValue(connection, f"t{secrets.token_hex(6)}", 60)
    settings = Settings(development_sign_in=True, session_ttl=60.0)
    app = create_app(settings, keyvalue=values, control_plane=ControlPlane(upstream, "token"))
    async with served(app) as url:
        yield url
    await connection.close()


@pytest.fixture
async def client(gateway: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(gateway, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        yield client


async def login(client: aiohttp.ClientSession) -> str:
    async with client.post("/api/auth/login", json={"user": "ann", "roles": ["editor"]}) as answer:
        return str((await answer.json())["session_token"])


async def health(client: aiohttp.ClientSession, **headers: str) -> int:
    async with client.post("/graphql", json={"query": "{ health }"}, headers=headers) as answer:
        return answer.status


async def test_a_session_lives_from_login_to_logout(client: aiohttp.ClientSession) -> None:
    assert await health(client, authorization="Bearer forged") == 401
    token = await login(client)
    assert await health(client, authorization=f"Bearer {token}") == 200
    async with client.post("/api/auth/logout", json={"session_token": token}) as answer:
        assert answer.status == 200
    assert await health(client, authorization=f"Bearer {token}") == 401


async def test_a_browser_signs_in_by_cookie(client: aiohttp.ClientSession) -> None:
    await login(client)
    assert await health(client) == 403
    assert await health(client, **{"x-requested-with": "test"}) == 200


async def test_megabytes_stream_through_both_ways(client: aiohttp.ClientSession) -> None:
    token = await login(client)
    body = secrets.token_bytes(8 * 2**20)
    headers = {"authorization": f"Bearer {token}"}
    async with client.post("/noetl/catalog/register", data=body, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["x-user"] == "ann"
        assert await answer.read() == body


async def test_a_control_plane_that_breaks_off_is_seen_to_break_off(client: aiohttp.ClientSession) -> None:
    token = await login(client)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.get("/noetl/executions", headers={"authorization": f"Bearer {token}"}) as answer:
            await answer.read()


async def test_it_is_ready_while_its_parts_answer(client: aiohttp.ClientSession) -> None:
    async with client.get("/readyz") as answer:
        # the control plane of this test has no /livez
        assert answer.status == 503
        assert (await answer.json())["checks"] == {"sessions": "ok", "control_plane": "BadGateway"}
