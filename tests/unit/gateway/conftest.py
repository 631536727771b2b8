"""The gateway without a network below it, in front of a control plane that says what the test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from starlette.types import ASGIApp, Message
from tests.serving import serving_app

from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.gateway.sessions import Sessions, User
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryKeyValue

SERVICE_TOKEN = "service-token-of-the-gateway"


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Client:
    """Calls an ASGI app in place."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        chunks: list[bytes] | None = None,
        token: str | None = None,
        cookie: str | None = None,
        is_whole: bool = True,
    ) -> Answer:
        """`is_whole`: whether the rest of the body ever comes."""
        sent = {"host": "gateway.test", **(headers or {})}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        if cookie is not None:
            sent["cookie"] = f"session_token={cookie}"
        if chunks is not None:
            sent.setdefault("transfer-encoding", "chunked")
        elif body is not None:
            chunks = [body if isinstance(body, bytes) else json.dumps(body).encode()]
            sent.setdefault("content-type", "application/json")
            sent["content-length"] = str(len(chunks[0]))
        waiting = chunks or [b""]
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("gateway.test", 80),
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        }
        answer = Answer()

        async def receive() -> Message:
            if not waiting:
                # like a client that stays to hear the answer
                await asyncio.Event().wait()
            chunk = waiting.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(waiting) or not is_whole}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
            else:
                answer.chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return answer


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class Upstream:
    """A control plane: `answers` by "METHOD /path", and all it was asked in `seen`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.headers: dict[str, str] = {}
        self.answers: dict[str, Any] = {"GET /livez": {"status": "ok"}}
        self.handler: Handler | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path.partition("?")[0], dict(request.query), headers, body))
        if self.handler is not None:
            return await self.handler(request, body)
        answer = self.answers.get(f"{request.method} {request.path}")
        if isinstance(answer, list) and answer and isinstance(answer[0], int):
            status, problem = answer
            text = json.dumps({"status": status, **problem})
            return web.Response(status=status, text=text, content_type="application/problem+json")
        if answer is None:
            body_404 = {
                "type": "urn:noetl:problem:resource.not_found",
                "title": "Not found",
                "code": "resource.not_found",
                "status": 404,
            }
            return web.json_response(body_404, status=404, content_type="application/problem+json")
        return web.json_response(answer, headers=self.headers)

    @property
    def last(self) -> Seen:
        return self.seen[-1]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with serving_app(app) as upstream.url:
        yield upstream


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def values() -> MemoryKeyValue:
    return MemoryKeyValue()


@pytest.fixture
def sessions(values: MemoryKeyValue) -> Sessions:
    return Sessions(values, 3600)


@pytest.fixture
async def control_plane(upstream: Upstream) -> AsyncIterator[ControlPlane]:
    control_plane = ControlPlane(upstream.url, SERVICE_TOKEN)
    yield control_plane
    await control_plane.close()


@pytest.fixture
def call(values: MemoryKeyValue, control_plane: ControlPlane) -> Client:
    settings = Settings(development_sign_in=True, session_ttl=3600.0)
    return Client(create_app(settings, keyvalue=values, control_plane=control_plane))


SignedIn = Callable[[str], Awaitable[str]]


@pytest.fixture
def signed_in(sessions: Sessions) -> SignedIn:
    """A session token of somebody with that role."""

    async def sign_in(role: str) -> str:
        token, _ = await sessions.open(User(f"{role}@example.org", f"{role}@example.org", role, (role,)))
        return token

    return sign_in


@pytest.fixture
async def viewer(signed_in: SignedIn) -> str:
    return await signed_in("viewer")


@pytest.fixture
async def editor(signed_in: SignedIn) -> str:
    return await signed_in("editor")


@pytest.fixture
async def admin(signed_in: SignedIn) -> str:
    return await signed_in("admin")
