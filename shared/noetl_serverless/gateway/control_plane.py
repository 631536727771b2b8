"""The gateway's client of the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from ..errors import MEDIA_TYPE, InvalidRequest, Problem


class BadGateway(Problem):
    status, code, title = 502, "control_plane.unavailable", "The control plane is not available"


class RelayedProblem(Problem):
    """A problem that the control plane answered, passed on as it is."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("detail") or body.get("title") or "The control plane refused the request"))
        self.body = dict(body)
        # on the instance, overriding the class: the values that the control plane answered
        self.status = int(body["status"])  # type: ignore[misc]
        self.code = str(body.get("code", BadGateway.code))  # type: ignore[misc]
        self.title = str(body.get("title", ""))

    def to_dict(self, instance: str | None = None) -> dict[str, Any]:
        return {**self.body, "instance": instance} if instance else dict(self.body)


class ControlPlane:
    """JSON over HTTP with this gateway's service token; `user` is the user on whose behalf it calls."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        read_timeout: float = 90.0,
        connect: Callable[[], aiohttp.ClientSession] | None = None,
    ) -> None:
        """`connect` creates the session, for hosts that have their own way to the control plane."""
        self._url = url.rstrip("/")
        self._connect = connect or _session
        self._token = token
        self._timeout = timeout
        self._read_timeout = read_timeout
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, path: str, params: Mapping[str, Any] | None = None, *, user: str = "") -> Any:
        return await self.call("GET", path, params=params, user=user)

    async def page(self, path: str, params: Mapping[str, Any], *, user: str = "") -> tuple[list[dict[str, Any]], bool]:
        """The rows of a list, and whether there are more of them."""
        answer, headers = await self._request("GET", path, params=params, user=user)
        # executions and events come without an envelope, as in the original NoETL
        rows = answer if isinstance(answer, list) else answer["items"]
        return rows, 'rel="next"' in headers.get("link", "")

    async def post(self, path: str, body: Any, *, headers: Mapping[str, str] | None = None, user: str = "") -> Any:
        return await self.call("POST", path, body=body, headers=headers, user=user)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        user: str = "",
    ) -> Any:
        """The answer's JSON. RelayedProblem if the control plane refuses, BadGateway if it does not answer."""
        return (await self._request(method, path, params=params, body=body, headers=headers, user=user))[0]

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        user: str = "",
    ) -> tuple[Any, Mapping[str, str]]:
        """The answer's JSON, and its headers."""
        request_headers = {"accept": "application/json", **(headers or {}), **self._identity(user)}
        data = None
        if body is not None:
            data = _encoded(body)
            request_headers["content-type"] = "application/json"
        query = {name: str(value) for name, value in (params or {}).items() if value is not None}
        try:
            request = self._open().request(
                method,
                URL(self._url + path, encoded=True).update_query(query),
                data=data,
                headers=request_headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            )
            async with request as response:
                return _read(response, await response.read()), response.headers
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BadGateway("The control plane is not available; try again later") from error

    async def forward(
        self,
        method: str,
        target: str,
        *,
        headers: list[tuple[str, str]],
        body: AsyncIterable[bytes] | bytes | None,
        user: str,
    ) -> aiohttp.ClientResponse:
        """The answer with its body unread; the caller closes it. `target` is an encoded path with its query. Raises
        BadGateway."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._read_timeout)
        try:
            return await self._open().request(
                method,
                URL(self._url + target, encoded=True),
                data=body,
                headers=[*headers, *self._identity(user).items()],
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BadGateway("The control plane is not available; try again later") from error

    async def has(self, target: str) -> bool:
        """Whether there is an operation at the path `target`, whatever its method. Raises BadGateway."""
        answer = await self.forward("OPTIONS", target, headers=[], body=None, user="")
        answer.release()
        # its router knows, before it asks who calls: 405 where there are other methods
        return answer.status != 404

    async def check(self) -> None:
        """BadGateway if it does not answer; for readiness probes."""
        await self.get("/livez")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _identity(self, user: str) -> dict[str, str]:
        identity = {"authorization": f"Bearer {self._token}"}
        if user:
            identity["x-noetl-user"] = quote(user, safe="@.+-_:|")
        return identity

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = self._connect()
        return self._session


def _session() -> aiohttp.ClientSession:
    # bodies are passed through unchanged, so nothing may be decompressed
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "User-Agent", "Content-Type"),
        connector=aiohttp.TCPConnector(limit=200),
    )


def _encoded(body: Any) -> bytes:
    """As JSON; raises InvalidRequest for what the control plane could not store either."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"what was given cannot be passed on: {error}") from error


def _read(response: aiohttp.ClientResponse, content: bytes) -> Any:
    try:
        body = orjson.loads(content) if content else None
    except orjson.JSONDecodeError as error:
        raise BadGateway("The control plane did not return JSON") from error
    if response.status < 400:
        return body
    refuse_own_failure(response)
    if response.content_type == MEDIA_TYPE and isinstance(body, dict):
        raise RelayedProblem({**body, "status": response.status})
    raise BadGateway(f"The control plane returned status {response.status}")


def refuse_own_failure(response: aiohttp.ClientResponse) -> None:
    """Raises BadGateway for a 401: it is about this gateway's token, not the user's, so the fault is ours."""
    if response.status == 401:
        raise BadGateway("The control plane does not accept this gateway's service token")
