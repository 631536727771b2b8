"""The worker's client of the control plane: one keep-alive HTTP session, with retries bounded by a deadline."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import BaseModel

from ..errors import Problem
from ..protocol import (
    VERSION,
    WIRE,
    CallbackRequest,
    CallbackUrl,
    ClaimRequest,
    ClaimResponse,
    FetchedSecret,
    HeartbeatRequest,
    HeartbeatResponse,
    ReportRequest,
    ReportResponse,
    SecretAnswer,
    SecretRequest,
    SecretStored,
)
from ..tools.port import Credential
from .orchestrator import MAX_REPORT_TRIES, Response, refusal
from .tries import TryFailed, until_answered

M = TypeVar("M", bound=BaseModel)

CALL_TIMEOUT_SECONDS = 30.0
JSON, OCTETS = "application/json", "application/octet-stream"
CREDENTIAL_TTL_SECONDS = 30.0
_RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class ControlPlane:
    """An `Orchestrator` over HTTP, and all else that workers ask of the control plane. Every method raises Unavailable
    when it does not answer within `timeout` seconds, and the Problem from the answer when it refuses: see there."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        connections: int = 16,
        call_timeout: float = CALL_TIMEOUT_SECONDS,
        connect: Callable[[], aiohttp.ClientSession] | None = None,
    ) -> None:
        """`connect` creates the session, for hosts that reach the control plane in their own way."""
        self._url = url.rstrip("/")
        self._connect = connect or self._default_session
        self._headers = {"Authorization": f"Bearer {token}", WIRE: str(VERSION)}
        self._connections = connections
        self._call_timeout = call_timeout
        self._session: aiohttp.ClientSession | None = None
        self._credentials: dict[str, tuple[float, Credential]] = {}
        # the version of the protocol that the last answer named
        self._version = 1

    def supports(self, version: int) -> bool:
        """Whether the control plane supports this version of the protocol, according to its last answer."""
        return self._version >= version

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[ClaimResponse]:
        return await self._post("/api/commands/claim", request, ClaimResponse, timeout)

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[ReportResponse]:
        return await self._post("/api/commands/report", request, ReportResponse, timeout, MAX_REPORT_TRIES)

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> HeartbeatResponse:
        return (await self._post("/api/commands/heartbeat", request, HeartbeatResponse, timeout)).body

    async def credential(self, name: str, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Credential:
        """Cached for half a minute, so that a loop does not fetch it for each item."""
        now = time.monotonic()
        cached = self._credentials.get(name)
        if cached is not None and cached[0] > now:
            return cached[1]
        content, _ = await self._send(
            "GET", f"/api/credentials/{quote(name, safe='')}?include_data=true", None, timeout
        )
        body = orjson.loads(content)
        credential = Credential(name=body["name"], type=body["type"], data=body["data"])
        self._credentials[name] = (now + CREDENTIAL_TTL_SECONDS, credential)
        return credential

    async def acquire_secret(self, request: SecretRequest) -> SecretAnswer:
        return await self.call("POST", "/api/keychain/acquire", SecretAnswer, request)

    async def store_secret(self, request: FetchedSecret) -> SecretStored:
        return await self.call("POST", "/api/keychain/store", SecretStored, request)

    async def callback_url(self, request: CallbackRequest) -> CallbackUrl:
        return await self.call("POST", "/api/callbacks", CallbackUrl, request)

    async def manifest(self, execution_id: str, step: str, generation: int, after: int = 0) -> dict[str, Any]:
        """A page of the manifest, from item `after` on: {"parts", "next"}. The previous release does not page: it
        returns the whole manifest, without "next"."""
        path = f"/api/results/manifest/{quote(execution_id, safe='')}/{quote(step, safe='')}/{generation}"
        content, _ = await self._send("GET", f"{path}?after={after}" if after else path, None, CALL_TIMEOUT_SECONDS)
        body: dict[str, Any] = orjson.loads(content)
        return body

    async def call(
        self,
        method: str,
        path: str,
        answer: type[M],
        request: BaseModel | None = None,
        *,
        timeout: float = CALL_TIMEOUT_SECONDS,
    ) -> M:
        """Any other operation."""
        body = None if request is None else request.model_dump_json().encode()
        content, _ = await self._send(method, path, body, timeout)
        return answer.model_validate_json(content)

    async def transfer(
        self, method: str, path: str, body: bytes | None = None, *, timeout: float = CALL_TIMEOUT_SECONDS
    ) -> tuple[bytes, Mapping[str, str]]:
        """An operation that takes bytes as they are, or answers with some: its answer, and the headers of that, in
        lower case."""
        headers: dict[str, str] = {}

        async def once(seconds: float) -> tuple[int, bytes]:
            status, content, answered = await self._request(method, path, body, seconds, OCTETS)
            headers.update((name.lower(), value) for name, value in answered.items())
            return status, content

        content, _ = await self._until_answered(path, once, timeout)
        return content, headers

    async def check(self) -> None:
        """Raises unless the control plane is alive."""
        await self._send("GET", "/livez", None, 1.0)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._credentials.clear()

    async def _post(
        self, path: str, request: BaseModel, answer: type[M], timeout: float, max_tries: int | None = None
    ) -> Response[M]:
        body = request.model_dump_json(exclude_defaults=True).encode()
        content, doubtful = await self._send("POST", path, body, timeout, max_tries)
        return Response(answer.model_validate_json(content), doubtful)

    async def _send(
        self, method: str, path: str, body: bytes | None, timeout: float, max_tries: int | None = None
    ) -> tuple[bytes, bool]:
        return await self._until_answered(
            path, lambda seconds: self._send_once(method, path, body, seconds), timeout, max_tries
        )

    async def _until_answered(
        self,
        path: str,
        send_once: Callable[[float], Awaitable[tuple[int, bytes]]],
        timeout: float,
        max_tries: int | None = None,
    ) -> tuple[bytes, bool]:
        async def once(remaining: float) -> bytes:
            try:
                status, content = await send_once(min(max(remaining, 0.1), self._call_timeout))
            except aiohttp.ClientConnectorError as error:
                # the request was never sent
                raise TryFailed(f"{path}: {type(error).__name__}", reached=False) from error
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                raise TryFailed(f"{path}: {type(error).__name__}", reached=True) from error
            if status < 400:
                return content
            if status not in _RETRY_STATUSES:
                raise _problem(status, content)
            raise TryFailed(f"{path} answered {status}", reached=True, status=status)

        return await until_answered(once, timeout, max_tries)

    async def _send_once(self, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
        status, content, _ = await self._request(method, path, body, timeout, JSON)
        return status, content

    async def _request(
        self, method: str, path: str, body: bytes | None, timeout: float, media_type: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        if self._session is None:
            # created on first use, because it belongs to the running event loop
            self._session = self._connect()
        limit = aiohttp.ClientTimeout(total=timeout)
        url = self._url + path
        headers = {**self._headers, "Content-Type": media_type}
        async with self._session.request(method, url, data=body, headers=headers, timeout=limit) as response:
            content = await response.read()
            if response.status < 400:
                version = response.headers.get(WIRE, "1")
                self._version = int(version) if version.isdecimal() else 1
            return response.status, content, response.headers

    def _default_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )


def _problem(status: int, content: bytes) -> Problem:
    try:
        body = orjson.loads(content)
        detail = str(body.get("detail") or body.get("title") or status)
    except (orjson.JSONDecodeError, AttributeError):
        detail = f"the control plane answered {status}"
    return refusal(status, detail)
